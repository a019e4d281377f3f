"""How single values are read: durations, AS numbers, peers."""

from __future__ import annotations

import pytest

from tortie.calc.bgp_peer import parse_peer
from tortie.calc.durations import seconds
from tortie.calc.hosts import as_number_of
from tortie.calc.outlet import Outlet, Rows
from tortie.desired.routes import ROUTES, RouteRow
from tortie.net.addresses import Prefix


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("90s", 90), ("1m30s", 90), ("1.5h", 5400), ("250ms", 0.25), ("2h45m", 9900), ("1us", 1e-6)],
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "90", "soon", "1m 30s", "-5s", "1d"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(text)


def test_as_numbers() -> None:
    assert as_number_of(64512) == 64512
    assert as_number_of("65001.1") == 65001 * 65536 + 1
    assert as_number_of("") is None
    assert as_number_of(None) is None
    with pytest.raises(ValueError, match="invalid literal"):
        as_number_of("x.y")


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("10.0.0.1", "10.0.0.1", 179),
        ("10.0.0.1:1790", "10.0.0.1", 1790),
        ("fd00::1", "fd00::1", 179),
        ("[fd00::1]", "fd00::1", 179),
        ("[fd00::1]:1790", "fd00::1", 1790),
    ],
)
def test_peers(text: str, address: str, port: int) -> None:
    found = parse_peer(text)
    assert (str(found[0]), found[1]) == (address, port)


@pytest.mark.parametrize("text", ["", "host", "10.0.0.1:bgp", "[fd00::1", "10.0.0.1/24"])
def test_no_peers(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|appear"):
        parse_peer(text)


def test_an_outlet_tells_of_changes_alone() -> None:
    outlet: Outlet[str, int] = Outlet()
    told: list[str] = []
    outlet.subscribe(told.append)
    outlet.put("a", 1)
    outlet.put("a", 1)
    outlet.put("a", 2)
    outlet.drop("a")
    outlet.drop("a")
    assert told == ["a", "a", "a"]
    assert len(outlet) == 0


def test_rows_tell_what_differs_from_what_was_taken() -> None:
    rows = Rows(ROUTES)
    one, two = RouteRow(kind="blackhole"), RouteRow(kind="blackhole", advertised=True)
    a, b = Prefix.parse("10.0.0.0/26"), Prefix.parse("10.0.0.64/26")
    rows.want(a, one)
    rows.want(b, None)
    delta = rows.take()
    assert delta is not None
    assert (dict(delta.put), delta.gone) == ({a: one}, frozenset())
    rows.want(a, two)
    rows.want(a, one)
    rows.want(b, one)
    rows.want(b, None)
    assert rows.take() is None, "what came back to what it was is no news"
    rows.want(a, None)
    delta = rows.take()
    assert delta is not None
    assert (dict(delta.put), delta.gone) == ({}, frozenset({a}))
