"""BIRD's control socket: ask it, and tell it to read its configuration anew.

The protocol is lines of ``CODE-text`` (more follows), ``CODE text`` (the last) and `` text`` (same code as before);
codes from 8000 are errors (BIRD 2 Programmer's Documentation, "Client communication").
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tortie.errors import DeadlineExceeded, KernelError, ProgramFailed
from tortie.host.bird import BirdSession, BirdStatus

_MOST_BYTES = 16 << 20


class Line(NamedTuple):
    """One line of an answer, with its code."""

    code: int
    text: str


class BirdControl:
    """A client of one BIRD. Each question is a connection of its own: BIRD may die and come back in between."""

    def __init__(self, socket: Path, *, timeout_seconds: float = 3.0) -> None:
        self.socket = socket
        self._timeout_seconds = timeout_seconds

    async def ask(self, command: str) -> list[Line]:
        """The answer to one command.

        Raises `KernelError` when no BIRD listens, `ProgramFailed` when BIRD refuses the command, `DeadlineExceeded`.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                lines = await self._converse(command)
        except TimeoutError:
            raise DeadlineExceeded(
                f"asking BIRD at {self.socket} to {command}", self._timeout_seconds
            ) from None
        except OSError as error:
            raise KernelError(error.errno or 0, "reach BIRD at", str(self.socket)) from None
        if lines[-1].code >= 8000:
            raise ProgramFailed(
                "bird", lines[-1].code, "; ".join(line.text for line in lines if line.code >= 8000)
            )
        return lines

    async def _converse(self, command: str) -> list[Line]:
        reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=_MOST_BYTES)
        try:
            await _answer(reader)  # the greeting
            writer.write(f"{command}\n".encode())
            await writer.drain()
            return await _answer(reader)
        finally:
            writer.close()

    async def configure(self) -> None:
        """Read the configuration file anew; sessions that did not change stay up. Raises as `ask` does."""
        await self.ask("configure")

    async def defines(self, constant: str) -> bool:
        """Whether the configuration that BIRD runs, which need not be the one in its file, defines this constant."""
        answer = await self.ask(f"show symbols {constant}")
        return [constant, "constant"] in [line.text.split() for line in answer]

    async def status(self) -> BirdStatus:
        return parse_status(await self.ask("show status"))

    async def sessions(self) -> list[BirdSession]:
        """Every BGP session, by name."""
        return parse_sessions(await self.ask("show protocols all"))

    async def route_counts(self) -> dict[str, tuple[int, int]]:
        """Routes and networks of each table."""
        return parse_route_counts(await self.ask("show route count"))


async def _answer(reader: asyncio.StreamReader) -> list[Line]:
    lines: list[Line] = []
    code = 0
    while True:
        raw = await reader.readline()
        if not raw:
            raise ConnectionResetError(104, "BIRD closed the connection")
        text = raw.decode(errors="replace").rstrip("\n")
        if text[:1] in {" ", "+"}:
            lines.append(Line(code, text[1:]))
            continue
        code = int(text[:4])
        lines.append(Line(code, text[5:]))
        if text[4:5] != "-":
            return lines


_TIME = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?|\d\d:\d\d:\d\d(?:\.\d+)?|\S+)"
_PROTOCOL = re.compile(rf"(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+{_TIME}(?:\s+(.*))?$")
_ROUTES = re.compile(r"Routes:\s+(\d+) imported,(?: \d+ filtered,)? (\d+) exported")


def parse_sessions(lines: Iterable[Line]) -> list[BirdSession]:
    """``show protocols all``: its BGP protocols, in the order of their names."""
    sessions: list[BirdSession] = []
    head: re.Match[str] | None = None
    details: dict[str, str] = {}
    imported = exported = 0

    def close() -> None:
        if head is None or head[2] != "BGP":
            return
        info = (head[6] or "").strip()
        word, _, rest = info.partition(" ")
        sessions.append(
            BirdSession(
                name=head[1],
                up=head[4] == "up",
                state=details.get("BGP state", word),
                since=head[5],
                address=details.get("Neighbor address", "").partition("%")[0],
                as_number=int(details.get("Neighbor AS", "0")),
                reason=details.get("Last error", rest).strip(),
                imported=imported,
                exported=exported,
            )
        )

    for line in lines:
        if line.code == 1002 and (match := _PROTOCOL.match(line.text)):
            close()
            head, details, imported, exported = match, {}, 0, 0
        elif line.code == 1006:
            name, colon, value = line.text.strip().partition(":")
            if colon:
                details.setdefault(name, value.strip())
            if counted := _ROUTES.search(line.text):
                imported += int(counted[1])
                exported += int(counted[2])
    close()
    return sorted(sessions, key=lambda session: session.name)


def parse_status(lines: Iterable[Line]) -> BirdStatus:
    """``show status``."""
    version = router_id = started = configured = ""
    recovering = False
    for line in lines:
        text = line.text.strip()
        if line.code == 1000:
            version = text.removeprefix("BIRD ")
        elif text.startswith("Router ID is "):
            router_id = text.removeprefix("Router ID is ")
        elif text.startswith("Last reboot on "):
            started = text.removeprefix("Last reboot on ")
        elif text.startswith("Last reconfiguration on "):
            configured = text.removeprefix("Last reconfiguration on ")
        elif text.startswith("Graceful restart recovery in progress"):
            recovering = True
    return BirdStatus(
        version=version, router_id=router_id, started=started, configured=configured, recovering=recovering
    )


_COUNT = re.compile(r"(\d+) of \d+ routes for (\d+) networks in table (\S+)")


def parse_route_counts(lines: Iterable[Line]) -> dict[str, tuple[int, int]]:
    """``show route count``."""
    found = (_COUNT.search(line.text) for line in lines)
    return {match[3]: (int(match[1]), int(match[2])) for match in found if match}
