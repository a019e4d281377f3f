"""`up` and `down`: a lab from nothing to all sessions established, and back to nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tortie.admin.client import AdminClient
from tortie.admin.fleet import socket_in
from tortie.cni import install
from tortie.errors import AgentUnavailable, DeadlineExceeded, ProgramFailed, TortieError, UsageError
from tortie.kernel import process
from tortie.lab import fabric, state
from tortie.lab.topology import LabNode, Topology, directory_of

READY_SECONDS = 60.0
STOP_SECONDS = 10.0
POLL_SECONDS = 0.05

Progress = Callable[[str], None]


async def up(topology: Topology, progress: Progress) -> None:
    """Build the lab and return when its agents are ready and its BGP sessions established.

    What an earlier `up` of this name left unfinished is removed first; one that is still at work is waited for. Raises
    `UsageError` when the lab is up already, `DeadlineExceeded` naming what is not ready, and why.
    """
    async with _alone(topology.name, progress):
        await _up(topology, progress)


async def _up(topology: Topology, progress: Progress) -> None:
    if _is_up(topology.name):
        raise UsageError(
            f"lab {topology.name} is up already: 'tortie lab down --lab {topology.name}' takes it down"
        )
    await down(topology.name, lambda _: None)
    state.save(topology)
    try:
        progress(f"fabric: {len(topology.nodes)} nodes")
        for node in topology.nodes:
            _prepare(topology, node)
        await fabric.build(topology)
        progress(f"datastore: {topology.datastore}")
        await _start_supervisor(topology)
        await _ready(topology, progress)
        (topology.directory / "up").touch()
    except (OSError, TortieError):
        if state.exists(topology.name):
            raise
        # A `down` came in between: what was made after it goes as well.
        await down(topology.name, lambda _: None)
        raise UsageError(f"lab {topology.name} was taken down while it came up") from None


async def down(name: str, progress: Progress) -> None:
    """Leave no process, namespace, interface or file of the lab. What is gone already is no error.

    Raises `UsageError` for what is no lab's name.
    """
    directory_of(name)
    supervisors = _supervisors(name)
    if supervisors:
        progress("stopping the programs")
    for pid in supervisors:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    for pid in await _gone(supervisors, STOP_SECONDS):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    namespaces = fabric.namespaces_of(name)
    leftover = [pid for namespace in namespaces for pid in await _pids_in(namespace)]
    for number, seconds in ((signal.SIGTERM, 2.0), (signal.SIGKILL, STOP_SECONDS)):
        for pid in leftover:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        leftover = await _gone(leftover, seconds)
    if namespaces:
        progress(f"removing {len(namespaces)} namespaces")
    fabric.delete_namespaces(namespaces)
    state.forget(name)


def admin_clients(topology: Topology) -> dict[str, AdminClient]:
    """One client a node."""
    return {node.name: AdminClient(socket_in(topology.run_dir(node.name))) for node in topology.nodes}


@asynccontextmanager
async def _alone(name: str, progress: Progress) -> AsyncIterator[None]:
    """One `up` of a lab at a time. The lock is a socket's name, which goes with the process and leaves no file."""
    deadline = time.monotonic() + READY_SECONDS
    with socket.socket(socket.AF_UNIX) as lock:
        said = False
        while True:
            try:
                lock.bind(f"\0tortie-lab-up-{name}")
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            if time.monotonic() > deadline:
                raise UsageError(f"another 'tortie lab up --lab {name}' is still at work")
            if not said:
                progress(f"waiting: another 'tortie lab up --lab {name}' is at work")
                said = True
            await asyncio.sleep(POLL_SECONDS)
        yield


def _is_up(name: str) -> bool:
    return (directory_of(name) / "up").exists() and bool(_supervisors(name))


def _supervisors(name: str) -> list[int]:
    """The pids of the lab's supervisor, also of one that an `up` has only just started: told by the command line, since a
    number in a file may be another process's by now, or not written yet."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().rstrip(b"\0").split(b"\0")
            if words[-4:] == [word.encode() for word in _supervise(name)]:
                found.append(int(path.parent.name))
    return found


def _supervise(name: str) -> tuple[str, ...]:
    return ("lab", "supervise", "--lab", name)


def _prepare(topology: Topology, node: LabNode) -> None:
    for directory in (topology.run_dir(node.name), topology.state_dir(node.name)):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    # No chained plugins: a lab publishes no host ports, and portmap would need iptables in each node.
    configuration = install.conflist(socket=str(topology.run_dir(node.name) / "cni.sock"), chained=())
    install.install(
        bin_dir=topology.cni_bin_dir(node.name),
        conf_dir=topology.cni_conf_dir(node.name),
        configuration=configuration,
    )


async def _start_supervisor(topology: Topology) -> None:
    argv = [sys.executable, "-m", "tortie", *_supervise(topology.name)]
    await process.spawn(argv, output=topology.directory / "supervisor.log", detached=True)


async def _ready(topology: Topology, progress: Progress) -> None:
    deadline = time.monotonic() + READY_SECONDS + 2.0 * len(topology.nodes)
    clients = admin_clients(topology)
    for what, reason in (("agents", _agent_reason), ("BGP sessions", _session_reason)):
        waiting = dict.fromkeys(clients, "not asked yet")
        while waiting:
            for name in list(waiting):
                answer = await reason(clients[name])
                if answer:
                    waiting[name] = answer
                else:
                    del waiting[name]
                    progress(f"{what}: {len(clients) - len(waiting)} of {len(clients)} nodes")
            if waiting and (time.monotonic() > deadline or not state.exists(topology.name)):
                raise _not_ready(topology, what, waiting)
            await asyncio.sleep(POLL_SECONDS if waiting else 0)


def _not_ready(topology: Topology, what: str, waiting: dict[str, str]) -> TortieError:
    reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(waiting.items()))
    logs = f"the logs are in {topology.directory}/log"
    return DeadlineExceeded(f"{what} of lab {topology.name} ({reasons}; {logs})", READY_SECONDS)


async def _agent_reason(client: AdminClient) -> str:
    """Why this agent is not ready; empty when it is."""
    try:
        answer: dict[str, Any] = await client.call("status")
    except AgentUnavailable:
        return "its agent does not answer"
    return "" if answer["ready"] else str(answer.get("reason") or "not ready")


async def _session_reason(client: AdminClient) -> str:
    try:
        answer: dict[str, Any] = await client.call("node-status")
    except (AgentUnavailable, TortieError) as error:
        return str(error)
    down = [row for row in answer["sessions"] if row["state"] != "Established"]
    return f"{down[0]['peer']} is {down[0]['state']}" if down else ""


async def _pids_in(namespace: str) -> list[int]:
    try:
        outcome = await process.run(["ip", "netns", "pids", namespace])
    except ProgramFailed:
        return []
    return [int(word) for word in outcome.stdout.split()]


async def _gone(pids: Iterable[int], seconds: float) -> list[int]:
    """Wait until these processes have ended; those that have not."""
    left = list(pids)
    deadline = time.monotonic() + seconds
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if _exists(pid)]
        if left:
            await asyncio.sleep(POLL_SECONDS)
    return left


def _exists(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] != b"Z"
    except OSError:
        return False
