from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from tortie.agent import sandboxes
from tortie.agent.cni_server import Handler
from tortie.agent.sandboxes import Sandboxes, rows
from tortie.cni.frames import Forwarded
from tortie.cni.request import Request, parse_request
from tortie.desired.endpoints import EndpointKey, EndpointRow
from tortie.errors import KernelError
from tortie.net.addresses import Address

CONFIG = b'{"cniVersion": "1.0.0", "name": "tortie", "type": "tortie"}'
WEB = EndpointKey("default", "node1-k8s-web-eth0")
NOTHING: Any = None


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxes, "NOTE_SECONDS", 0)


class Willing:
    """Does whatever it is asked, or nothing."""

    error: Exception | None = None

    async def attach(self, *_: object) -> str:
        if self.error is not None:
            raise self.error
        return "result"

    async def detach(self, *_: object) -> None:
        return


def request(command: str = "ADD", container: str = "abc", pod: str = "web") -> Request:
    env = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container,
        "CNI_NETNS": f"/run/netns/{container}",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}",
    }
    return parse_request(Forwarded(env=env, netns_passed=True, netns_error=""), CONFIG)


def make(directory: Path, handler: Willing | None = None) -> Sandboxes:
    return Sandboxes(directory / "sandboxes", "node1", lambda: "cali", cast("Handler", handler or Willing()))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not condition():  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.005)


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "sandboxes").iterdir())


async def test_an_add_is_remembered_over_a_restart_until_its_del(tmp_path: Path) -> None:
    first = make(tmp_path)
    assert await first.attach(request(), 3, NOTHING) == cast("Any", "result")
    assert first.known[WEB].netns == "/run/netns/abc"
    await until(lambda: files(tmp_path) == ["abc-eth0.json"])
    second = make(tmp_path)
    assert second.known == first.known
    await second.detach(request("DEL"), None, NOTHING)
    assert second.known == {}
    await until(lambda: files(tmp_path) == [])


async def test_a_del_of_the_sandbox_before_leaves_the_new_one(tmp_path: Path) -> None:
    known = make(tmp_path)
    await known.attach(request(container="old"), 3, NOTHING)
    await until(lambda: files(tmp_path) == ["old-eth0.json"])
    await known.attach(request(container="new"), 3, NOTHING)
    await known.detach(request("DEL", container="old"), None, NOTHING)
    assert known.known[WEB].container_id == "new"
    await until(lambda: files(tmp_path) == ["new-eth0.json"])


async def test_an_add_that_failed_is_not_known(tmp_path: Path) -> None:
    handler = Willing()
    handler.error = KernelError(1, "make a wire")
    known = make(tmp_path, handler)
    with pytest.raises(KernelError):
        await known.attach(request(), 3, NOTHING)
    assert known.known == {}


def test_a_broken_file_is_removed(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "sandboxes" / "x.json").write_text("{")
    assert make(tmp_path).known == {}
    assert files(tmp_path) == []


async def test_rows_join_endpoints_and_sandboxes(tmp_path: Path) -> None:
    known = make(tmp_path)
    await known.attach(request(), 3, NOTHING)
    endpoints = {
        WEB: EndpointRow(interface="cali1", addresses=(Address.parse("10.65.0.2"),)),
        EndpointKey("default", "node1-k8s-db-eth0"): EndpointRow(interface="cali2", addresses=(), up=False),
    }
    db, web = rows(endpoints, known.known)
    assert (web["pod"], web["netns"], web["addresses"]) == ("web", "/run/netns/abc", ["10.65.0.2"])
    assert (db["pod"], db["netns"], db["up"]) == ("", "", False)


async def test_a_del_for_a_name_that_no_add_takes(tmp_path: Path) -> None:
    made = make(tmp_path)
    await made.attach(request(), 0, NOTHING)
    await made.detach(request("DEL", pod="No_Name"), None, NOTHING)
    assert set(made.known) == {WEB}
