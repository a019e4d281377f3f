"""Keeps a lab's programs running, as systemd would: a process of its own, one a lab.

What it knows stands in ``units.json`` (`Running`), written anew at each change, so that every other command can read it
without asking.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import msgspec

from tortie.kernel import process
from tortie.lab.topology import Topology
from tortie.lab.units import Unit, units

STOP_SECONDS = 5.0
LOOK_SECONDS = 0.05
SETTLED_SECONDS = 5.0
MOST_DELAY_SECONDS = 0.8


class Running(msgspec.Struct):
    """The supervisor's own pid, and the pid of each unit that runs now; ``starts`` counts how often each was started."""

    supervisor: int
    pids: dict[str, int] = {}
    starts: dict[str, int] = {}


def running_path(directory: Path) -> Path:
    return directory / "units.json"


def read_running(directory: Path) -> Running | None:
    """What runs now, or None where no supervisor has ever been."""
    try:
        return msgspec.json.decode(running_path(directory).read_bytes(), type=Running)
    except FileNotFoundError:
        return None


class Supervisor:
    """Starts every unit, starts it again when it ends, and stops all of them on SIGTERM."""

    def __init__(self, topology: Topology) -> None:
        self._directory = topology.directory
        self._units = units(topology)
        self._running = Running(supervisor=os.getpid())
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        (self._directory / "log").mkdir(exist_ok=True)
        self._write()
        async with asyncio.TaskGroup() as group:
            for unit in self._units:
                group.create_task(self._keep(unit), name=unit.name)

    async def _keep(self, unit: Unit) -> None:
        delay = 0.1
        while not self._stopping.is_set():
            if unit.needs is not None and not unit.needs.exists():
                await self._pause(LOOK_SECONDS)
                continue
            started = time.monotonic()
            await self._run_once(unit)
            # One that ends at once is tried ever more slowly, yet never more than a second apart.
            settled = time.monotonic() - started > SETTLED_SECONDS
            delay = 0.1 if settled else min(delay * 2, MOST_DELAY_SECONDS)
            await self._pause(delay)

    async def _run_once(self, unit: Unit) -> None:
        if unit.stale is not None:
            unit.stale.unlink(missing_ok=True)
        log = self._directory / "log" / f"{unit.name.replace('/', '-')}.log"
        child = await process.spawn(
            ["nsenter", f"--net=/run/netns/{unit.netns}", *unit.argv],
            environment={**os.environ, **unit.environment},
            directory=unit.directory,
            output=log,
        )
        self._running.pids[unit.name] = child.pid
        self._running.starts[unit.name] = self._running.starts.get(unit.name, 0) + 1
        self._write()
        ended = asyncio.ensure_future(child.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            child.terminate()
            if not (await asyncio.wait({ended}, timeout=STOP_SECONDS))[0]:
                child.kill()
            await ended
        stopping.cancel()
        self._running.pids.pop(unit.name, None)
        self._write()

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _write(self) -> None:
        path = running_path(self._directory)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(self._running))
        fresh.replace(path)
