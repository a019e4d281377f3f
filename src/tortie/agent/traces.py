"""Packets followed through nftables, for whoever asks over the admin socket: one trace at a time, bounded in time."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tortie.agent.probes import forget_path_mtu
from tortie.errors import TortieError, UsageError
from tortie.kernel import nft_trace, one_packet
from tortie.kernel.nft_trace import PacketTrace, Traced, TraceEvent
from tortie.net.addresses import Address

MOST_SECONDS = 30.0
MOST_SOURCES = 64

_COUNTER = re.compile(r'counter name "(.+)/[^/"]+"')
"""As nft shows it; counters are named after the chain that their policy has or would have (`rules.policies.Part`)."""

Names = Callable[[], Mapping[str, str]]
"""Chains of policies and profiles, and what each is for people."""


class Traces:
    """``names`` says whose chain is whose."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._running: PacketTrace | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._table = asyncio.Lock()

    async def tidy(self) -> None:
        """Remove what an agent that died in the midst of a trace has left. Raises `ProgramFailed` where there is no nft."""
        async with self._table:
            if self._running is None:
                await nft_trace.remove()

    async def start(
        self, sources: Sequence[str], destination: str, protocol: int, port: int | None, seconds: float
    ) -> None:
        """Follow such packets until `stop`, or until the time is over. Raises `UsageError`, `KernelError`, `ProgramFailed`."""
        if not 0 < seconds <= MOST_SECONDS or not 0 < len(sources) <= MOST_SOURCES or not 0 < protocol < 256:
            raise UsageError(
                f"trace: seconds is at most {MOST_SECONDS:g}, sources are 1 to {MOST_SOURCES}, protocol is 1 to 255"
            )
        if port is not None and not 0 < port < 65536:
            raise UsageError(f"trace: port is 1 to 65535, not {port}")
        if self._running is not None:
            raise UsageError("a trace runs on this node already: ask again when it has ended")
        traced = Traced(
            sources=tuple(map(_address, sources)),
            destination=_address(destination),
            protocol=protocol,
            port=port,
        )
        trace = self._running = PacketTrace(traced)
        try:
            async with self._table:
                await trace.start()
        except BaseException:
            self._running = None
            await trace.close()
            raise
        self._timer = asyncio.get_running_loop().call_later(seconds, self._over)

    def _over(self) -> None:
        """Nobody asked for it: what is left is a table that the next trace replaces, and that marks for nobody."""
        if self._running is not None:
            self._running.abandon()
            self._running = None

    async def stop(self) -> list[dict[str, Any]]:
        """Every rule that was met, each with ``policy`` where it is one's. Raises `UsageError`, `KernelError`."""
        trace, self._running = self._running, None
        if self._timer is not None:
            self._timer.cancel()
        if trace is None:
            raise UsageError("no trace runs on this node: it was never started, or its time was over")
        events = await trace.stop()
        names = self._names()
        return [{**dataclasses.asdict(event), "policy": policy_of(event, names)} for event in events]

    async def close(self) -> None:
        if self._running is not None:
            with suppress(TortieError):
                await self._running.close()


def policy_of(event: TraceEvent, names: Mapping[str, str]) -> str:
    """Whose rule it is: its chain tells, or, in a chain with rules of several, its counter; empty where it is nobody's."""
    counter = _COUNTER.search(event.rule)
    return names.get(event.chain) or (names.get(counter[1], "") if counter else "")


async def send(
    netns: str,
    source: str,
    destination: str,
    protocol: int,
    port: int | None,
    icmp_type: int,
    size: int | None = None,
) -> dict[str, Any]:
    """Send one packet from the namespace (empty: our own): ``{"came", "detail", "mtu"}``."""
    if not 0 < protocol < 256 or not 0 <= icmp_type < 256 or (port is not None and not 0 < port < 65536):
        raise UsageError(f"send: no such packet: protocol {protocol}, port {port}, type {icmp_type}")
    if size is not None:
        if not 0 <= size <= one_packet.MOST_SIZE or not one_packet.carries(protocol):
            raise UsageError(
                f"send: size is 0 to {one_packet.MOST_SIZE}, of UDP, ICMP or a protocol without ports, not {size}"
            )
        await asyncio.to_thread(forget_path_mtu, netns, _address(destination).version)
    sent = await one_packet.send(
        netns or None, _address(source), _address(destination), protocol, port, icmp_type=icmp_type, size=size
    )
    return sent._asdict()


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise UsageError(f"trace: {error}") from None
