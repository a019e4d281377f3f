"""What policies have allowed and denied, for Prometheus: as last read from the kernel, and only what has counted anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

LABELS = ("direction", "action", "decided_by", "tier", "kind", "namespace", "name")


class PolicySum(NamedTuple):
    """All rules of one policy with one action, or the end of a tier or of the profiles: `LABELS`, and what they counted."""

    labels: tuple[str, ...]
    packets: int
    bytes: int


class _Sum(NamedTuple):
    packets: int = 0
    bytes: int = 0


_NOTHING = _Sum()


class PolicyMetrics(Collector):
    """`put` replaces what was there, but for what went with a rule, or with the last pod of an IP version: that is kept as long
    as anything of its policy counts. Prometheus would take a sum that is less for one that began anew, and add all of it again.
    """

    def __init__(self) -> None:
        self._sums: Mapping[tuple[str, ...], _Sum] = {}
        self._kept: Mapping[tuple[str, ...], _Sum] = {}

    def put(self, sums: Iterable[PolicySum]) -> None:
        found: dict[tuple[str, ...], _Sum] = {}
        for labels, packets, size in sums:
            if packets:
                before = found.get(labels, _NOTHING)
                found[labels] = _Sum(before.packets + packets, before.bytes + size)
        kept = {labels: self._gone(labels, now) for labels, now in found.items()}
        self._kept = {labels: gone for labels, gone in kept.items() if gone != _NOTHING}
        self._sums = {
            labels: _Sum(now.packets + kept[labels].packets, now.bytes + kept[labels].bytes)
            for labels, now in found.items()
        }

    def _gone(self, labels: tuple[str, ...], now: _Sum) -> _Sum:
        """What was told before and is counted by nobody now."""
        told, kept = self._sums.get(labels, _NOTHING), self._kept.get(labels, _NOTHING)
        return _Sum(max(kept.packets, told.packets - now.packets), max(kept.bytes, told.bytes - now.bytes))

    def collect(self) -> Iterator[CounterMetricFamily]:
        text = "that the rules of a policy, or the end of a tier, have decided on."
        packets = CounterMetricFamily("tortie_policy_packets", f"Packets {text}", labels=LABELS)
        sizes = CounterMetricFamily("tortie_policy_bytes", f"Bytes {text}", labels=LABELS)
        for labels, (count, size) in self._sums.items():
            packets.add_metric(labels, count)
            sizes.add_metric(labels, size)
        yield packets
        yield sizes
