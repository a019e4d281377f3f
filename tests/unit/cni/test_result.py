"""Results in every spec version: written, read back, and the differences by name."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.cni.errors import CNIError, Code
from tortie.cni.result import DNS, Result, ResultAddress, ResultInterface, ResultRoute, parse, render
from tortie.cni.versions import SUPPORTED, SpecVersion
from tortie.net.addresses import Address, Interface, Prefix, Version

RESULT = Result(
    interfaces=(
        ResultInterface(name="cali0123456789a", mac="ee:ee:ee:ee:ee:ee"),
        ResultInterface(name="eth0", mac="02:00:00:00:00:01", sandbox="/run/netns/x", mtu=1440),
    ),
    ips=(
        ResultAddress(
            address=Interface.parse("10.65.0.2/32"), gateway=Address.parse("169.254.1.1"), interface=1
        ),
        ResultAddress(address=Interface.parse("fd00::2/128"), interface=1),
    ),
    routes=(
        ResultRoute(destination=Prefix.parse("0.0.0.0/0"), gateway=Address.parse("169.254.1.1"), mtu=1400),
    ),
    dns=DNS(nameservers=("10.96.0.10",), search=("cluster.local",)),
)


def written(version: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(render(RESULT, SpecVersion.parse(version)))
    return document


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0"])
def test_before_1_0_0_addresses_tell_their_family(version: str) -> None:
    assert written(version)["ips"] == [
        {"version": "4", "address": "10.65.0.2/32", "gateway": "169.254.1.1", "interface": 1},
        {"version": "6", "address": "fd00::2/128", "interface": 1},
    ]


def test_1_0_0() -> None:
    assert written("1.0.0") == {
        "cniVersion": "1.0.0",
        "interfaces": [
            {"name": "cali0123456789a", "mac": "ee:ee:ee:ee:ee:ee"},
            {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/x"},
        ],
        "ips": [
            {"address": "10.65.0.2/32", "gateway": "169.254.1.1", "interface": 1},
            {"address": "fd00::2/128", "interface": 1},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
        "dns": {"nameservers": ["10.96.0.10"], "search": ["cluster.local"]},
    }


def test_1_1_0_tells_mtus() -> None:
    assert written("1.1.0")["interfaces"][1]["mtu"] == 1440
    assert written("1.1.0")["routes"][0]["mtu"] == 1400


def test_what_an_ipam_plugin_returns_is_read() -> None:
    given_back = b'{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.0.5/24","gateway":"10.1.0.1"}],"dns":{}}'
    assert parse(given_back) == Result(
        ips=(ResultAddress(address=Interface.parse("10.1.0.5/24"), gateway=Address.parse("10.1.0.1")),)
    )


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"garbage",
        b'{"ips": [{"address": "x"}]}',
        b'{"ips": [{}]}',
        b'{"routes": [{"dst": "10.0.0.0/99"}]}',
    ],
)
def test_what_is_no_result_is_refused_by_name(document: bytes) -> None:
    with pytest.raises(CNIError, match=r"ipam\.type host-local: is not a CNI result") as caught:
        parse(document, what="ipam.type host-local")
    assert caught.value.code == Code.INVALID_CONFIG


def addresses(version: Version) -> st.SearchStrategy[Address]:
    return st.integers(0, (1 << (32 if version == 4 else 128)) - 1).map(lambda value: Address(version, value))


@st.composite
def results(draw: st.DrawFn) -> Result:
    def interface(family: int) -> ResultAddress:
        version = cast("Version", family)
        return ResultAddress(
            address=Interface(draw(addresses(version)), draw(st.integers(0, 32 if family == 4 else 128))),
            gateway=draw(st.none() | addresses(version)),
            interface=draw(st.none() | st.integers(0, 3)),
        )

    def route(family: int) -> ResultRoute:
        version = cast("Version", family)
        length = draw(st.integers(0, 32 if family == 4 else 128))
        return ResultRoute(
            destination=draw(addresses(version)).prefix.supernet(length),
            gateway=draw(st.none() | addresses(version)),
        )

    families = st.lists(st.sampled_from([4, 6]), max_size=3)
    return Result(
        interfaces=tuple(
            ResultInterface(name=name) for name in draw(st.lists(st.text(min_size=1), max_size=3))
        ),
        ips=tuple(map(interface, draw(families))),
        routes=tuple(map(route, draw(families))),
        dns=DNS(
            domain=draw(st.text(max_size=5)), options=tuple(draw(st.lists(st.text(min_size=1), max_size=2)))
        ),
    )


@given(result=results(), version=st.sampled_from(SUPPORTED))
def test_every_version_reads_back_what_it_wrote(result: Result, version: str) -> None:
    data = render(result, SpecVersion.parse(version))
    assert parse(data) == result
    assert parse(json.loads(data)) == result
