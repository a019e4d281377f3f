"""Each broken variant is found by the fuzz, and soon."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fuzz.compare import differences
from tests.fuzz.variants import VARIANTS

SETS, PACKETS = 100, 100
"""Within so many sets of so many packets: ten thousand pairs."""


@pytest.mark.parametrize("name", VARIANTS)
def test_found(name: str, record_property: Callable[[str, object], None]) -> None:
    found = next(differences(range(SETS), VARIANTS[name], packets=PACKETS), None)
    assert found is not None, f"{name}: not found within {SETS * PACKETS} pairs"
    record_property("pairs", (found.seed + 1) * PACKETS)


def test_there_are_ten() -> None:
    assert len(VARIANTS) >= 10
