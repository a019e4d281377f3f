"""Prefixes are read as the standard library reads them, whichever way is taken."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tortie.net.addresses import Interface, Prefix

parts = st.one_of(st.integers(0, 300).map(str), st.sampled_from(["00", "01", "007", "", "٣", "-1", " 1"]))
lengths = st.sampled_from(["", "/32", "/31", "/8", "/0", "/33", "/032", "/"])


@given(st.lists(parts, min_size=3, max_size=5).map(".".join), lengths, st.booleans())
@example("10.77.0.1", "/32", True)
@example("010.77.0.1", "/32", True)
@example("255.255.255.255\n", "", True)
def test_as_the_standard_library(address: str, length: str, strict: bool) -> None:
    text = address + length
    try:
        network = ipaddress.ip_network(text, strict=strict)
        expected = (network.version, int(network.network_address), network.prefixlen)
    except ValueError:
        expected = None
    try:
        found = tuple(Prefix.parse(text, strict=strict))
    except ValueError:
        found = None
    assert found == expected


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/0.0.0.255",
        "10.0.0.0/0.0.0.0",
        "fe80::1%eth0",
        "fe80::1%eth0/128",
        "fe80::/10%1",
    ],
)
def test_masks_and_zones_are_no_cidr(text: str) -> None:
    """As in Calico; the standard library takes ``10.0.0.0/0.0.0.0`` for all addresses, and drops the zone."""
    with pytest.raises(ValueError, match=r"10\.0|fe80"):
        Prefix.parse(text, strict=False)
    with pytest.raises(ValueError, match=r"10\.0|fe80"):
        Interface.parse(text)
