from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tortie.admin.client import AdminClient
from tortie.admin.fleet import Fleet
from tortie.admin.protocol import AgentRefused
from tortie.agent.admin_server import AdminServer
from tortie.errors import AgentUnavailable, DeadlineExceeded, UsageError
from tortie.net.addresses import Address


async def _echo(text: str, times: int = 1) -> str:
    return text * times


async def _refuse() -> None:
    raise UsageError("not today")


async def _broken() -> None:
    raise RuntimeError("a defect")


async def _slow() -> None:
    await asyncio.sleep(60)


async def _rows() -> list[dict[str, Any]]:
    return [{"address": str(Address.parse("10.0.0.1")), "big": "x" * 200_000}]


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[AdminClient]:
    operations: dict[str, Callable[..., Awaitable[Any]]] = {
        "echo": _echo,
        "refuse": _refuse,
        "broken": _broken,
        "slow": _slow,
        "rows": _rows,
    }
    task = asyncio.ensure_future(AdminServer(path, operations).run())
    async with asyncio.timeout(2):
        while not _exists(path):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.005)
    try:
        yield AdminClient(path)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _exists(path: Path) -> bool:
    return path.exists()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    # Longer than the 107 bytes that a Unix socket's path may have.
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    return deep / "admin.sock"


async def test_questions_and_answers(path: Path) -> None:
    async with serving(path) as client:
        assert await client.call("echo", text="ab", times=2) == "abab"
        assert (await client.call("rows"))[0]["address"] == "10.0.0.1"
        assert _mode(path) == 0o600


@pytest.mark.parametrize(
    ("op", "args", "said"),
    [
        ("refuse", {}, "not today"),
        ("broken", {}, "RuntimeError: a defect"),
        ("nothing", {}, "there is no operation 'nothing'; there is broken, echo, refuse, rows, slow"),
        ("echo", {}, "missing 1 required positional argument: 'text'"),
        ("echo", {"text": "a", "loud": True}, "unexpected keyword argument 'loud'"),
    ],
)
async def test_a_refusal_carries_the_agents_words(
    path: Path, op: str, args: dict[str, Any], said: str
) -> None:
    async with serving(path) as client:
        with pytest.raises(AgentRefused) as caught:
            await client.call(op, **args)
        assert said in str(caught.value)
        assert await client.call("echo", text="still here") == "still here"


async def test_nonsense_is_answered_and_the_connection_stays(path: Path) -> None:
    async with serving(path) as client:
        reader, writer = await client._connect()
        writer.write(b"nonsense\n" + b'{"op": "echo", "args": {"text": "a"}}\n')
        assert b'"ok":false' in await reader.readline()
        assert b'"result":"a"' in await reader.readline()
        writer.close()


async def test_who_is_not_there_is_named(tmp_path: Path) -> None:
    for socket in (tmp_path / "admin.sock", tmp_path / "no" / "such" / "admin.sock"):
        with pytest.raises(AgentUnavailable, match=f"no agent answers at {socket}"):
            await AdminClient(socket).call("status")


async def test_an_agent_that_does_not_answer_in_time(path: Path) -> None:
    async with serving(path) as client:
        with pytest.raises(DeadlineExceeded, match="the agent's answer to slow"):
            await client.call("slow", timeout_seconds=0.05)


async def test_a_fleet_tells_who_could_not_be_asked(path: Path, tmp_path: Path) -> None:
    async with serving(path) as client:
        fleet = Fleet({"node1": client, "node2": AdminClient(tmp_path / "gone.sock")})
        answers = await fleet.ask("echo", text="a")
        assert answers.results == {"node1": "a"}
        assert isinstance(answers.failed["node2"], AgentUnavailable)
