"""The command ``tortie`` as a user types it, against a lab of the test's own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

TORTIE = (sys.executable, "-m", "tortie")


class LabCommand:
    """Runs ``tortie …`` for one lab."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *argv: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """``tortie ARGV``, the lab named by TORTIE_LAB."""
        done = subprocess.run(
            [*TORTIE, *argv],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**_environment(), "TORTIE_LAB": self.name},
        )
        if check and done.returncode:
            raise AssertionError(
                f"tortie {' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def json(self, *argv: str, check: bool = True) -> Any:
        """What ``tortie ARGV -o json`` prints."""
        return json.loads(self.run(*argv, "-o", "json", check=check).stdout)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json("lab", "status")
        return found

    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.status()["nodes"] if node["name"] == name)

    def inside(self, place: str, *argv: str, check: bool = True) -> str:
        """The output of a command run in a node or pod."""
        return self.run("lab", "exec", place, "--", *argv, check=check).stdout

    def add_pod(self, name: str, node: str, *more: str) -> dict[str, Any]:
        found: dict[str, Any] = self.json("lab", "pod", "add", name, "--node", node, *more)
        return found

    def exports(self, *more: str) -> dict[str, str]:
        """The variables that ``lab env`` exports."""
        lines = self.run("lab", "env", *more).stdout.splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in lines)


@contextmanager
def lab(name: str, *options: str) -> Iterator[LabCommand]:
    """A lab that is up, and down again whatever happens."""
    made = LabCommand(name)
    try:
        made.run("lab", "up", *options)
        yield made
    finally:
        made.run("lab", "down")


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10.0) -> None:
    """Look again and again until the condition holds; fails naming ``what``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


async def finish(*argv: str) -> str:
    """Run a program beside others; its whole output."""
    child = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await child.communicate()
    return output.decode()


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
