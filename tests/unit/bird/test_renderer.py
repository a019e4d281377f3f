"""bird.conf as text. What BIRD makes of it is tested with a real one: ``tests/kernel/test_bird.py``."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.dataplane.bird.renderer import render
from tortie.desired.bgp import BGPNodeRow, BGPPeerRow, ExportPool, session_name
from tortie.errors import InvalidResource
from tortie.net.addresses import Address, Prefix

A, P = Address.parse, Prefix.parse
NODE = BGPNodeRow(
    node="node1",
    router_id="172.30.0.11",
    as_number=64512,
    ipv4=A("172.30.0.11"),
    pools=(ExportPool(prefix=P("10.77.0.0/16")), ExportPool(prefix=P("10.88.0.0/16"), export=False)),
)
PEER = BGPPeerRow(
    kind="mesh", address=A("172.30.0.12"), as_number=64512, node="node2", source_address=A("172.30.0.11")
)


def changed(**more: Any) -> str:
    return render(dataclasses.replace(NODE, **more), {"Mesh_172_30_0_12": PEER}).text


def session(**more: Any) -> str:
    text = render(NODE, {"X": dataclasses.replace(PEER, **more)}).text
    return text[text.index("protocol bgp X") :]


def test_only_exported_pools_may_leave() -> None:
    text = changed()
    assert "net ~ [ 10.77.0.0/16+ ]" in text
    assert "10.88" not in text
    assert "( false )" in changed(pools=()).replace("(false)", "( false )")


def test_no_block_and_no_pod_is_named() -> None:
    """The file depends on pools, nodes and settings alone, so that a new pod reloads nothing."""
    fields = {field.name for field in dataclasses.fields(BGPNodeRow)} | {
        field.name for field in dataclasses.fields(BGPPeerRow)
    }
    assert not fields & {"blocks", "routes", "workloads", "endpoints"}


def test_versions_appear_only_where_the_node_has_them() -> None:
    assert "ipv6" not in changed()
    both = changed(ipv6=A("fd30::11"))
    for part in (
        "protocol kernel kernel4",
        "protocol kernel kernel6",
        "krt_prefsrc = fd30::11;",
        "template bgp bgp6",
    ):
        assert part in both
    six = render(dataclasses.replace(NODE, ipv4=None, ipv6=A("fd30::11")), {}).text
    assert "kernel4" not in six


def test_a_node_without_bgp_leaves_the_fib_alone() -> None:
    text = render(None, {"Mesh_172_30_0_12": PEER}).text
    assert "protocol device" in text
    assert "kernel" not in text
    assert "bgp" not in text


def test_what_a_session_may_say() -> None:
    plain = session()
    assert "local 172.30.0.11 as 64512;" in plain
    assert "neighbor 172.30.0.12 port 179 as 64512;" in plain
    assert "# node2" in plain
    for absent in ("passive", "password", "ttl security", "next hop", "keepalive"):
        assert absent not in plain
    assert "passive on;" in session(passive=True)
    assert 'password "a b";' in session(password="a b")
    assert "next hop keep;" in session(next_hop="keep")
    assert "keepalive time 7;" in session(keepalive_seconds=7)
    assert "graceful restart time 9;" in session(max_restart_seconds=9)
    assert "ttl security on;" in session(ttl_security=2)
    assert "multihop 2;" in session(ttl_security=2)
    assert "local as 64512;" in session(source_address=None)
    assert "direct;" in session(multihop=False)


def test_ports_and_binding() -> None:
    text = changed(listen_port=1790, bind_to_node_address=True)
    assert "local 172.30.0.11 port 1790 as 64512;" in text
    assert "strict bind on;" in text


@pytest.mark.parametrize("password", ['say "friend"', "two\nlines"])
def test_a_peer_that_cannot_be_said_is_refused_alone(password: str) -> None:
    bad = dataclasses.replace(PEER, address=A("172.30.0.13"), password=password)
    rendered = render(NODE, {"Bad": bad, "Good": PEER})
    assert "protocol bgp Good" in rendered.text
    assert "protocol bgp Bad" not in rendered.text
    assert "double quote or a line's end" in str(rendered.refused["Bad"])
    assert password not in str(rendered.refused["Bad"]), "a password is no text for a log"


def test_a_peer_of_a_version_that_the_node_lacks_is_refused() -> None:
    rendered = render(NODE, {"Six": dataclasses.replace(PEER, address=A("fd30::12"), source_address=None)})
    assert "node1 has no IPv6 address" in str(rendered.refused["Six"])


def test_a_node_that_cannot_be_said_is_an_error() -> None:
    with pytest.raises(InvalidResource, match=r"spec\.ignoredInterfaces"):
        changed(ignored_interfaces=('a"b',))


def test_names_are_calicos() -> None:
    assert session_name("mesh", A("172.30.0.12")) == "Mesh_172_30_0_12"
    assert session_name("node", A("fd30::12")) == "Node_fd30__12"
    assert session_name("global", A("10.0.0.1"), 1790) == "Global_10_0_0_1_port_1790"


@given(st.permutations(range(5)))
def test_the_order_of_peers_does_not_matter(order: list[int]) -> None:
    peers = {f"P{n}": dataclasses.replace(PEER, address=Address(4, 1000 + n)) for n in order}
    assert render(NODE, peers).text == render(NODE, dict(sorted(peers.items()))).text
