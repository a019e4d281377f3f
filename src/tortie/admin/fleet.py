"""The agents that can be asked: all of a lab, or a bare host's own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tortie.admin.client import AdminClient
from tortie.errors import TortieError

RUN_DIR_VARIABLE = "TORTIE_RUN_DIR"
DEFAULT_RUN_DIR = Path("/run/tortie")
SOCKET_NAME = "admin.sock"


def socket_in(run_dir: Path) -> Path:
    return run_dir / SOCKET_NAME


def own_socket() -> Path:
    """The socket of this host's agent: below ``TORTIE_RUN_DIR``, by default ``/run/tortie``."""
    return socket_in(Path(os.environ.get(RUN_DIR_VARIABLE) or DEFAULT_RUN_DIR))


@dataclass(frozen=True)
class Answers:
    """What each node answered, and why the others did not: never asked is not the same as well."""

    results: Mapping[str, Any] = field(default_factory=dict[str, Any])
    failed: Mapping[str, TortieError] = field(default_factory=dict[str, TortieError])


class Fleet:
    """One client a node. Raises nothing by itself: who cannot be asked is in `Answers.failed`."""

    def __init__(self, clients: Mapping[str, AdminClient]) -> None:
        self.clients = dict(clients)

    @classmethod
    async def of_this_host(cls) -> Fleet:
        """The host's own agent, under its own name. Raises `AgentUnavailable`."""
        client = AdminClient(own_socket())
        status = await client.call("status")
        return cls({str(status["node"]): client})

    async def ask(self, op: str, *, timeout_seconds: float = 10.0, **args: Any) -> Answers:
        """Ask every node at once."""
        names = list(self.clients)
        said = await asyncio.gather(
            *(self.clients[name].call(op, timeout_seconds=timeout_seconds, **args) for name in names),
            return_exceptions=True,
        )
        results: dict[str, Any] = {}
        failed: dict[str, TortieError] = {}
        for name, answer in zip(names, said, strict=True):
            if isinstance(answer, TortieError):
                failed[name] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                results[name] = answer
        return Answers(results, failed)
