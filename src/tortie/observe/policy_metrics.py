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


class PolicyMetrics(Collector):
    """`put` replaces what was there."""

    def __init__(self) -> None:
        self._sums: Mapping[tuple[str, ...], tuple[int, int]] = {}

    def put(self, sums: Iterable[PolicySum]) -> None:
        found: dict[tuple[str, ...], tuple[int, int]] = {}
        for labels, packets, size in sums:
            if packets:
                before = found.get(labels, (0, 0))
                found[labels] = before[0] + packets, before[1] + size
        self._sums = found

    def collect(self) -> Iterator[CounterMetricFamily]:
        text = "that the rules of a policy, or the end of a tier, have decided on."
        packets = CounterMetricFamily("tortie_policy_packets", f"Packets {text}", labels=LABELS)
        sizes = CounterMetricFamily("tortie_policy_bytes", f"Bytes {text}", labels=LABELS)
        for labels, (count, size) in self._sums.items():
            packets.add_metric(labels, count)
            sizes.add_metric(labels, size)
        yield packets
        yield sizes
