"""A hundred thousand random pairs: the oracle and Tortie's verdict engine say the same, and for the same reason."""

from __future__ import annotations

import itertools

import pytest

from tests.fuzz.compare import HOSTS, PACKETS_A_SET, differences
from tests.fuzz.counts import Counts
from tests.fuzz.host_counts import HostCounts

PAIRS = 140_000
HOST_PAIRS = 60_000


@pytest.mark.timeout(900)
def test_oracle_and_verdict_engine_do_not_differ(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counts()
    seeds = range(PAIRS // PACKETS_A_SET)
    found = list(itertools.islice(differences(seeds, counts=counts), 3))
    with capsys.disabled():
        print("\n" + "\n".join(counts.lines()))
    assert not found, "\n\n".join(map(str, found))
    assert counts.pairs >= 100_000
    assert not counts.too_few()


@pytest.mark.timeout(900)
def test_nor_do_they_where_nodes_take_part(capsys: pytest.CaptureFixture[str]) -> None:
    """HostEndpoints of every sort, and what nodes do of themselves."""
    counts = HostCounts()
    packets = PACKETS_A_SET // 2
    found = list(
        itertools.islice(
            differences(range(HOST_PAIRS // packets), counts=counts, packets=packets, realm=HOSTS), 3
        )
    )
    with capsys.disabled():
        print("\n" + "\n".join(counts.lines()))
    assert not found, "\n\n".join(map(str, found))
    assert counts.pairs == HOST_PAIRS
    assert not counts.too_few()
