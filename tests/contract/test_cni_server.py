"""The agent's server and the real shim, held against each other; behind the server a handler of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tortie.agent.cni_server import CNIServer, Delegate
from tortie.cni.config import NetConf
from tortie.cni.errors import CNIError
from tortie.cni.install import shim
from tortie.cni.request import Request
from tortie.cni.result import Result, ResultAddress, ResultInterface
from tortie.errors import AddressesExhausted, StoreUnavailable, UsageError
from tortie.net.addresses import Interface

OWN_NAMESPACE = Path("/proc/self/ns/net").stat()
RESULT = Result(
    interfaces=(ResultInterface(name="cali1"), ResultInterface(name="eth0", sandbox="/proc/self/ns/net")),
    ips=(ResultAddress(address=Interface.parse("10.65.0.1/32"), interface=1),),
)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until it holds, with a bound."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Recorder:
    """A handler that does what the test says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.ended: list[str] = []
        self.namespaces: list[os.stat_result | None] = []
        self.work: Callable[[Delegate], Awaitable[None]] | None = None

    async def _take(self, what: str, netns: int | None, delegate: Delegate) -> None:
        self.asked.append(what)
        self.namespaces.append(None if netns is None else os.fstat(netns))
        if self.work is not None:
            await self.work(delegate)
        self.ended.append(what)

    async def attach(self, request: Request, netns: int, delegate: Delegate) -> Result:
        await self._take(f"ADD {request.container_id}", netns, delegate)
        return RESULT

    async def detach(self, request: Request, netns: int | None, delegate: Delegate) -> None:
        await self._take(f"DEL {request.container_id}", netns, delegate)

    async def check(self, request: Request, netns: int, delegate: Delegate) -> None:
        await self._take(f"CHECK {request.container_id}", netns, delegate)

    async def collect(self, config: NetConf, delegate: Delegate) -> None:
        await self._take(f"GC {config.alive}", None, delegate)

    async def status(self, config: NetConf, delegate: Delegate) -> None:
        await self._take("STATUS", None, delegate)


class Served:
    """A server that runs, and the shim to call it with."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.handler = Recorder()
        self.served: list[tuple[str, int]] = []
        self.server = CNIServer(
            socket, self.handler, on_served=lambda command, _, code: self.served.append((command, code))
        )

    async def start(self, command: str, **config: Any) -> asyncio.subprocess.Process:
        document = {
            "cniVersion": "1.0.0",
            "name": "net",
            "type": "tortie",
            "socket": str(self.socket),
        } | config
        child = await asyncio.create_subprocess_exec(
            str(shim()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": "c1",
                "CNI_NETNS": "/proc/self/ns/net",
                "CNI_IFNAME": "eth0",
                "CNI_PATH": "/usr/lib/cni",
            },
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(document).encode())
        child.stdin.close()
        return child

    async def call(self, command: str, **config: Any) -> tuple[int, dict[str, Any]]:
        child = await self.start(command, **config)
        async with asyncio.timeout(20):
            out, _ = await child.communicate()
        assert child.returncode is not None
        return child.returncode, json.loads(out) if out.strip() else {}


@pytest.fixture
async def served(run_dir: Path) -> AsyncIterator[Served]:
    made = Served(run_dir / "run" / "cni.sock")
    task = asyncio.ensure_future(made.server.run())
    await eventually(made.socket.exists)
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_the_socket_is_roots_alone(served: Served) -> None:
    assert stat.S_IMODE(served.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(served.socket.parent.stat().st_mode) == 0o700


async def test_an_add_is_handed_on_with_its_namespace(served: Served) -> None:
    status, result = await served.call("ADD")
    assert status == 0
    assert result["ips"] == [{"address": "10.65.0.1/32", "interface": 1}]
    seen, own = served.handler.namespaces[0], OWN_NAMESPACE
    assert seen is not None
    assert (seen.st_dev, seen.st_ino) == (own.st_dev, own.st_ino)
    assert served.handler.asked == ["ADD c1"]
    assert served.served == [("ADD", 0)]


async def test_each_command_reaches_its_method(served: Served) -> None:
    previous: dict[str, Any] = {"cniVersion": "1.1.0", "interfaces": [], "ips": []}
    alive = [{"containerID": "c9", "ifname": "eth0"}]
    calls: list[tuple[str, dict[str, Any]]] = [
        ("DEL", {}),
        ("CHECK", {"prevResult": previous}),
        ("GC", {"cni.dev/valid-attachments": alive}),
        ("STATUS", {}),
    ]
    for command, more in calls:
        assert await served.call(command, cniVersion="1.1.0", **more) == (0, {})
    assert [asked.split()[0] for asked in served.handler.asked] == ["DEL", "CHECK", "GC", "STATUS"]
    assert "c9" in served.handler.asked[2]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CNIError(7, "a bad field", "with details"), 7),
        (AddressesExhausted("pool p is full"), 101),
        (StoreUnavailable("the datastore is away"), 11),
        (RuntimeError("a defect"), 100),
    ],
)
async def test_an_error_is_one_of_cni(served: Served, error: Exception, code: int) -> None:
    async def fail(_: Delegate) -> None:
        raise error

    served.handler.work = fail
    status, result = await served.call("ADD", cniVersion="0.4.0")
    assert status == 1
    assert result["code"] == code
    assert result["cniVersion"] == "0.4.0"
    assert str(error) in result["msg"]
    assert served.served == [("ADD", code)]


async def test_a_bad_configuration_never_reaches_the_handler(served: Served) -> None:
    status, result = await served.call("ADD", mtu="large")
    assert (status, result["code"]) == (1, 7)
    assert "mtu" in result["msg"]
    assert served.handler.asked == []


async def test_a_delegated_plugin_is_run_by_the_shim(served: Served) -> None:
    ends: list[tuple[int, dict[str, Any]]] = []

    async def delegate(run: Delegate) -> None:
        for command in ("ADD", "DEL"):
            end = await run(command, "static")
            ends.append((end.status, json.loads(end.stdout or b"{}")))
        end = await run("ADD", "no-such-plugin")
        ends.append((end.status, json.loads(end.stdout)))

    served.handler.work = delegate
    ipam = {"type": "static", "addresses": [{"address": "10.9.0.1/24"}]}
    status, _ = await served.call("ADD", ipam=ipam)
    assert status == 0
    assert ends[0][0] == 0
    assert ends[0][1]["ips"][0]["address"] == "10.9.0.1/24"
    assert ends[1] == (0, {})
    assert ends[2][0] == 127
    assert "no-such-plugin" in ends[2][1]["msg"]


async def test_a_request_goes_on_without_its_shim(served: Served) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: Delegate) -> None:
        inside.set()
        await go_on.wait()

    served.handler.work = wait
    child = await served.start("ADD")
    async with asyncio.timeout(5):
        await inside.wait()
        child.kill()
        await child.wait()
        go_on.set()
    await eventually(lambda: bool(served.served))
    assert served.handler.ended == ["ADD c1"]
    served.handler.work = None
    assert (await served.call("DEL"))[0] == 0


async def test_eight_at_once(served: Served) -> None:
    meeting = asyncio.Barrier(8)

    async def meet(_: Delegate) -> None:
        await meeting.wait()

    served.handler.work = meet
    async with asyncio.timeout(20):
        done = await asyncio.gather(*(served.call("ADD") for _ in range(8)))
    assert [status for status, _ in done] == [0] * 8


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xffQ", b"\0\0\0\2Q{}"])
async def test_nonsense_is_turned_away_and_disturbs_nobody(served: Served, sent: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(served.socket))
    writer.write(sent)
    if writer.can_write_eof():
        writer.write_eof()
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert not answer or answer[4:5] == b"R"
    assert (await served.call("ADD"))[0] == 0
    assert served.handler.asked == ["ADD c1"]


async def test_another_user_is_refused(served: Served) -> None:
    for place, mode in (
        (served.socket.parents[1], 0o711),
        (served.socket.parent, 0o711),
        (served.socket, 0o666),
    ):
        place.chmod(mode)
    child = await asyncio.create_subprocess_exec(
        "python3",
        "-c",
        # It asks for nothing: who is refused may find the connection closed before a request is sent.
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); os.setuid(65534); s.connect(sys.argv[1]);"
        " print(s.recv(4096))",
        str(served.socket),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(10):
        out, _ = await child.communicate()
    assert b"root" in out
    assert served.handler.asked == []


async def test_a_place_that_is_no_socket_is_left_alone(run_dir: Path) -> None:
    place = run_dir / "cni.sock"
    place.write_text("precious")
    with pytest.raises(UsageError, match="is no socket"):
        await CNIServer(place, Recorder()).run()
    assert place.read_text() == "precious"


async def test_a_new_server_takes_the_place_of_a_dead_one(run_dir: Path) -> None:
    place = run_dir / "cni.sock"
    for _ in range(2):
        made = Served(place)
        task = asyncio.ensure_future(made.server.run())
        async with asyncio.timeout(5):
            while not made.handler.asked:
                await made.call("DEL", agentWaitSeconds=2)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert place.exists()
