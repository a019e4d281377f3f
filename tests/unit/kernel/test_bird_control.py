"""BIRD's answers, parsed; and a BIRD that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tortie.errors import DeadlineExceeded, KernelError, ProgramFailed
from tortie.kernel.bird import BirdControl, Line, parse_route_counts, parse_sessions, parse_status

PROTOCOLS = """\
2002-Name       Proto      Table      State  Since         Info
1002-device1    Device     ---        up     2026-11-22 23:29:22
1006-
1002-kernel4    Kernel     master4    up     2026-11-22 23:29:22
1006-  Channel ipv4
     Routes:         7 imported, 7 exported, 7 preferred

1002-Mesh_fd30__12 BGP        ---        start  2026-11-22 23:29:22  Active        Socket: Connection refused
1006-  BGP state:          Active
     Neighbor address: fd30::12%eth0
     Neighbor AS:      65001
     Last error:       Socket: Connection refused
1002-Mesh_172_30_0_12 BGP        ---        up     2026-11-22 23:30:01  Established
1006-  BGP state:          Established
     Neighbor address: 172.30.0.12
     Neighbor AS:      64512
     Neighbor ID:      172.30.0.12
   Channel ipv4
     Routes:         3 imported, 1 filtered, 2 exported, 3 preferred
0000
"""


def lines(text: str) -> list[Line]:
    found: list[Line] = []
    for line in text.splitlines():
        if line[:4].isdigit():
            found.append(Line(int(line[:4]), line[5:]))
        else:
            found.append(Line(found[-1].code, line[1:]))
    return found


def test_sessions_are_bgps_alone() -> None:
    up, down = parse_sessions(lines(PROTOCOLS))
    assert (up.name, up.up, up.state, up.since) == (
        "Mesh_172_30_0_12",
        True,
        "Established",
        "2026-11-22 23:30:01",
    )
    assert (up.address, up.as_number, up.reason, up.imported, up.exported) == ("172.30.0.12", 64512, "", 3, 2)
    assert (down.name, down.up, down.state) == ("Mesh_fd30__12", False, "Active")
    assert (down.address, down.as_number, down.reason) == ("fd30::12", 65001, "Socket: Connection refused")


def test_status_and_counts() -> None:
    status = parse_status(
        lines(
            "1000-BIRD 2.0.12\n1011-Router ID is 172.30.0.11\n Hostname is vm\n Last reboot on 2026-11-22 23:29:22\n"
            " Last reconfiguration on 2026-11-22 23:29:23\n0024-Graceful restart recovery in progress\n"
            "   Waiting for 2 channels to recover\n0013 Daemon is up and running\n"
        )
    )
    assert (status.version, status.router_id, status.started) == (
        "2.0.12",
        "172.30.0.11",
        "2026-11-22 23:29:22",
    )
    assert status.recovering
    counts = parse_route_counts(lines("1007-5 of 6 routes for 4 networks in table master4\n0014 Total: 5\n"))
    assert counts == {"master4": (5, 4)}


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def with_server(path: Path, serve: Serve, client: Callable[[BirdControl], Awaitable[object]]) -> object:
    server = await asyncio.start_unix_server(serve, path)
    async with server:
        return await client(BirdControl(path, timeout_seconds=0.3))


async def test_what_bird_refuses_is_an_error_with_its_words(run_dir: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"0001 BIRD 2.0.12 ready.\n")
        assert await reader.readline() == b"configure\n"
        writer.write(b"0002-Reading configuration from /x\n8002 /x:3:1 syntax error\n")
        writer.close()

    with pytest.raises(ProgramFailed, match="/x:3:1 syntax error"):
        await with_server(run_dir / "ctl", serve, lambda control: control.configure())


async def test_a_bird_that_hangs_is_given_up_on(run_dir: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"0001 BIRD 2.0.12 ready.\n")
        await reader.read()
        writer.close()

    with pytest.raises(DeadlineExceeded, match="show status"):
        await with_server(run_dir / "ctl", serve, lambda control: control.status())


async def test_a_bird_that_dies_in_mid_answer(run_dir: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"0001 BIRD 2.0.12 ready.\n")
        await reader.readline()
        writer.write(b"2002-Name\n")
        writer.close()

    with pytest.raises(KernelError, match="reach BIRD"):
        await with_server(run_dir / "ctl", serve, lambda control: control.sessions())


async def test_no_bird_at_all(run_dir: Path) -> None:
    with pytest.raises(KernelError, match=r"cannot reach BIRD at .*No such file"):
        await BirdControl(run_dir / "ctl").status()
