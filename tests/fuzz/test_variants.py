"""Each broken variant is found by the fuzz, and soon."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fuzz.compare import HOSTS, PODS, MakeEngine, Realm, differences
from tests.fuzz.variants import HOST_VARIANTS, VARIANTS

SETS, PACKETS = 100, 100
"""Within so many sets of so many packets: ten thousand pairs."""


@pytest.mark.parametrize("name", VARIANTS)
def test_found(name: str, record_property: Callable[[str, object], None]) -> None:
    record_property("pairs", _found_within(name, VARIANTS[name], PODS))


@pytest.mark.parametrize("name", HOST_VARIANTS)
def test_found_at_nodes(name: str, record_property: Callable[[str, object], None]) -> None:
    record_property("pairs", _found_within(name, HOST_VARIANTS[name], HOSTS))


def _found_within(name: str, variant: MakeEngine, realm: Realm) -> int:
    found = next(differences(range(SETS), variant, packets=PACKETS, realm=realm), None)
    assert found is not None, f"{name}: not found within {SETS * PACKETS} pairs"
    return (found.seed + 1) * PACKETS


def test_there_are_ten() -> None:
    assert len(VARIANTS) >= 10
