"""When a new verdict holds: packets, each the first of its flow, from one pod to several others until what arrives has changed.

Each round sends a datagram with a source port of its own to every target and hears what came; so a verdict is seen as it is for
new flows. It runs in a thread, beside whoever changes the policy.
"""

from __future__ import annotations

import itertools
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench import crowd
from tests.kernel.policy_world import UDP, Packet
from tortie.kernel import netns

PORT = 9000
ROUND_SECONDS = 0.001
QUIET_SECONDS = 0.03
"""So long nothing more may arrive before it counts that the last packet has arrived."""
GIVE_UP_SECONDS = 10.0


@dataclass
class _Seen:
    first_arrival: float = 0.0
    last_sent: float = 0.0
    """When the packet was sent that arrived last."""
    arrived: set[int] = field(default_factory=set[int])


class Prober:
    """From the pod ``client`` to the pods ``servers``; each is a number of `crowd` and its namespace."""

    def __init__(self, client: tuple[int, str], servers: Sequence[tuple[int, str]]) -> None:
        self._client = client[0]
        self._numbers = [number for number, _ in servers]
        self._sender = netns.run(client[1], _raw)
        self._listeners = [netns.run(namespace, _listener) for _, namespace in servers]
        self._sequence = itertools.count(1)
        self._ports = itertools.cycle(range(1024, 60000))

    def close(self) -> None:
        for each in (self._sender, *self._listeners):
            each.close()

    def watch(self, *, allowed: bool) -> float:
        """Send until every target's verdict is ``allowed``; the clock's time since when it is.

        For an allow: the first arrival. For a deny: when the first packet was sent of those that do not arrive any more.
        """
        self._hear([_Seen() for _ in self._numbers], {})
        seen = [_Seen() for _ in self._numbers]
        sent: dict[int, float] = {}
        times: list[float] = []
        began = time.monotonic()
        while True:
            now = time.monotonic()
            number = self._send()
            sent[number] = now
            times.append(now)
            self._hear(seen, sent)
            if allowed and all(each.first_arrival for each in seen):
                return max(each.first_arrival for each in seen)
            if not allowed:
                last = max(each.last_sent for each in seen)
                if now - max(last, began) > QUIET_SECONDS:
                    return next(when for when in times if when > last)
            if now - began > GIVE_UP_SECONDS:
                raise RuntimeError(f"no packet showed the new verdict ({'allow' if allowed else 'deny'})")

    def _send(self) -> int:
        number = next(self._sequence)
        source = crowd.address(self._client)
        for server in self._numbers:
            packet = Packet(protocol=UDP, ports=(next(self._ports), PORT))
            goal = crowd.address(server)
            self._sender.sendto(packet.payload(source, goal, struct.pack(">Q", number)), (str(goal), 0))
        return number

    def _hear(self, seen: Sequence[_Seen], sent: dict[int, float]) -> None:
        """What arrives within a round."""
        end = time.monotonic() + ROUND_SECONDS
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select(self._listeners, [], [], left)
            for listener in ready:
                number = int.from_bytes(listener.recv(64), "big")
                at = seen[self._listeners.index(listener)]
                if number in sent:
                    at.first_arrival = at.first_arrival or time.monotonic()
                    at.last_sent = max(at.last_sent, sent[number])


def _raw() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, UDP)


def _listener() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("", PORT))
    return listener
