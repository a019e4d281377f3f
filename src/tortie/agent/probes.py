"""Trying the network from where it is used: echoes out of a namespace, and a look at what arrives in one.

Both are bounded in time, in number and in size: they are asked for over the admin socket.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tortie.errors import KernelError, ProgramFailed, UsageError
from tortie.kernel import process, sysctl
from tortie.kernel.netns import open_namespace, run
from tortie.kernel.packets import MOST_DESTINATIONS, EchoCapture
from tortie.net.addresses import Address

MOST_TARGETS = 5000
MOST_COUNT = 1000
MOST_CAPTURES = 1024
LEAST_SIZE, MOST_SIZE = 100, 65_000
MOST_CAPTURE_SECONDS = 120.0
_LINE = re.compile(r"^(\S+)\s*:\s*(.*)$")


async def probe(
    netns: str,
    targets: Sequence[str],
    *,
    count: int,
    interval_ms: int,
    timeout_ms: int,
    source: str = "",
    size: int = 0,
) -> list[dict[str, Any]]:
    """Send ``count`` echoes to each target from the namespace (empty: our own), all at once.

    ``size`` makes each an IP packet of so many bytes that may not be fragmented; 0: small ones.

    Each answer is ``{"target", "sent", "received", "loss", "rtt_ms"}``; ``rtt_ms`` is the median of what came back, or None.
    Raises `UsageError` for what is beyond the bounds, `ProgramFailed` when fping is missing or refuses.
    """
    if not 1 <= count <= MOST_COUNT or not 1 <= interval_ms <= 10_000 or not 1 <= timeout_ms <= 60_000:
        raise UsageError(
            f"probe: count is 1 to {MOST_COUNT}, interval_ms 1 to 10000, timeout_ms 1 to 60000: "
            f"not {count}, {interval_ms}, {timeout_ms}"
        )
    if len(targets) > MOST_TARGETS:
        raise UsageError(f"probe: {len(targets)} targets, more than {MOST_TARGETS}")
    families: dict[int, list[str]] = {4: [], 6: []}
    for target in targets:
        families[_address(target).version].append(target)
    answers: list[dict[str, Any]] = []
    for version, wanted in families.items():
        if wanted:
            if size:
                await asyncio.to_thread(forget_path_mtu, netns, version)
            options = _size_options(version, size)
            if source:
                options += ["-S", str(_address(source))]
            answers += await _fping(netns, version, wanted, count, interval_ms, timeout_ms, options)
    return answers


def forget_path_mtu(netns: str, version: int) -> None:
    """The kernel remembers for ten minutes how narrow a path was: we ask how it is now (ip-sysctl: ``route/flush``)."""

    def flush() -> None:
        with suppress(KernelError):  # /proc/sys is not always ours to write
            sysctl.write(f"net/ipv{version}/route/flush", "1")

    if not netns:
        flush()
        return
    descriptor = open_namespace(Path(netns))
    try:
        run(descriptor, flush)
    finally:
        os.close(descriptor)


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise UsageError(f"probe: {error}") from None


def _size_options(version: int, size: int) -> list[str]:
    if not size:
        return []
    if not LEAST_SIZE <= size <= MOST_SIZE:
        raise UsageError(f"probe: size is {LEAST_SIZE} to {MOST_SIZE} bytes, not {size}")
    # fping counts the data alone: the IP header has 20 or 40 bytes, that of ICMP 8.
    return ["-M", "-b", str(size - (28 if version == 4 else 48))]


async def _fping(
    netns: str,
    version: int,
    targets: Sequence[str],
    count: int,
    interval_ms: int,
    timeout_ms: int,
    options: Sequence[str],
) -> list[dict[str, Any]]:
    # -i 0 needs root: all targets at once; -C prints each time that came back.
    argv = [*_inside(netns), "fping", f"-{version}", "-q", "-C", str(count), "-i", "0"]
    argv += ["-p", str(interval_ms), "-t", str(timeout_ms), "-r", "0", *options]
    bound = (count * (interval_ms + 1) + timeout_ms) / 1000 + len(targets) / 1000 + 10
    ended = await process.run(argv, stdin="\n".join(targets).encode(), timeout_seconds=bound, check=False)
    # 1: some did not answer; 2: some address is not to be found; above: it could not run.
    if ended.status not in (0, 1, 2):
        raise ProgramFailed("fping", ended.status, ended.stderr.decode(errors="replace")[-500:])
    return parse_times(ended.stderr.decode(errors="replace"), targets, count)


def _inside(netns: str) -> list[str]:
    return ["nsenter", f"--net={netns}"] if netns else []


def parse_times(text: str, targets: Sequence[str], count: int) -> list[dict[str, Any]]:
    """The answers from ``fping -C``: a line ``10.0.0.1 : 0.05 - 0.06`` a target, a dash for each that did not come back."""
    times: dict[str, list[float]] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or match[1] not in targets:
            continue
        words = match[2].split()
        if len(words) == count and all(word == "-" or _is_number(word) for word in words):
            times[match[1]] = [float(word) for word in words if word != "-"]
    answers: list[dict[str, Any]] = []
    for target in targets:
        came = sorted(times.get(target, ()))
        answers.append(
            {
                "target": target,
                "sent": count,
                "received": len(came),
                "loss": 1 - len(came) / count,
                "rtt_ms": came[len(came) // 2] if came else None,
            }
        )
    return answers


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


class Captures:
    """The captures that run now, by number. Each ends by itself after its time."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[EchoCapture, asyncio.TimerHandle]] = {}
        self._last = 0

    async def start(self, netns: str, seconds: float, destinations: Sequence[str] = ()) -> int:
        """Listen in the namespace (empty: our own), for what goes to ``destinations`` where there are any; listening when it
        returns. Raises `UsageError`, `KernelError`."""
        if len(destinations) > MOST_DESTINATIONS:
            raise UsageError(f"capture: {len(destinations)} destinations, more than {MOST_DESTINATIONS}")
        if not 0 < seconds <= MOST_CAPTURE_SECONDS:
            raise UsageError(
                f"capture: seconds is above 0 and at most {MOST_CAPTURE_SECONDS:g}, not {seconds}"
            )
        if len(self._running) >= MOST_CAPTURES:
            raise UsageError(f"capture: {MOST_CAPTURES} run already; stop some, or wait for their end")
        wanted = tuple(_address(text) for text in destinations)
        capture = await EchoCapture.open(netns or None, destinations=wanted)
        self._last += 1
        number = self._last
        timer = asyncio.get_running_loop().call_later(seconds, self._end, number)
        self._running[number] = (capture, timer)
        return number

    def stop(self, number: int) -> list[dict[str, Any]]:
        """What arrived: ``{"source", "destination", "id", "sequence", "interface"}`` each. Raises `UsageError`."""
        found = self._running.pop(number, None)
        if found is None:
            raise UsageError(f"capture {number} does not run: it was stopped, or its time was over")
        capture, timer = found
        timer.cancel()
        capture.close()
        return [
            {
                "source": str(seen.source),
                "destination": str(seen.destination),
                "id": seen.identifier,
                "sequence": seen.sequence,
                "interface": seen.interface,
            }
            for seen in capture.seen
        ]

    def _end(self, number: int) -> None:
        found = self._running.pop(number, None)
        if found is not None:
            found[0].close()

    def close(self) -> None:
        for number in list(self._running):
            self._end(number)
