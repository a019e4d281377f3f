"""Random histories: what the graph says depends on where they end."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scenarios.build import affinity, bgp, block, endpoint, felix, node, peer, pool
from tests.scenarios.states import Run, State, Stored, from_scratch
from tortie.calc.scope import Scope
from tortie.desired.endpoints import ENDPOINTS
from tortie.desired.routes import ROUTES
from tortie.net.addresses import Address
from tortie.resources.resource import Invalid

NODES = ("n1", "n2", "n3")
BLOCKS = ("10.77.0.0/26", "10.77.0.64/26", "fd77::/122")
PODS = ("a", "b", "c")
ADDRESSES = ("10.77.0.1/32", "10.77.0.2/32", "10.77.0.65/32", "fd77::1/128", "10.99.0.1/32")

names = st.sampled_from(NODES)
containers = st.sampled_from([f"c-{pod}" for pod in PODS])


@st.composite
def resources(draw: st.DrawFn) -> Stored:
    builders: list[Any] = [
        st.builds(
            node,
            names,
            st.sampled_from(["", "172.30.0.11/24", "172.30.0.12/24", "172.30.0.13/24"]),
            ipv6=st.sampled_from(["", "fd30::1/64", "fd30::2/64"]),
            addresses=st.sampled_from([(), ("192.0.2.1",), ("172.30.0.11",)]),
        ),
        st.builds(
            pool,
            st.sampled_from(["p", "q"]),
            st.sampled_from(["10.77.0.0/16", "fd77::/48"]),
            nat_outgoing=st.booleans(),
            disable_bgp_export=st.booleans(),
        ),
        st.builds(
            block,
            st.sampled_from(BLOCKS),
            st.sampled_from(["", *NODES]),
            st.dictionaries(st.sampled_from([1, 2]), containers, max_size=2),
        ),
        st.builds(affinity, names, st.sampled_from(BLOCKS), st.sampled_from(["confirmed", "pending"])),
        st.builds(
            endpoint,
            names,
            st.sampled_from(PODS),
            st.sampled_from(ADDRESSES),
            st.sampled_from(ADDRESSES),
            container=containers,
            revision=st.sampled_from(["1", "2"]),
        ),
        st.builds(
            felix,
            st.sampled_from(["default", "node.n1", "node.n2"]),
            interface_prefix=st.sampled_from(["cali", "tap"]),
        ),
        st.builds(bgp, node_to_node_mesh_enabled=st.booleans(), as_number=st.sampled_from([None, 65000])),
        st.builds(
            peer,
            st.sampled_from(["x", "y"]),
            st.sampled_from(["172.30.0.1", "172.30.0.12", "oops"]),
            node=st.sampled_from(["", "n1", "n2"]),
        ),
    ]
    made: Stored = draw(st.one_of(builders))
    return Invalid(made.key, "broken") if draw(st.integers(0, 9)) == 0 else made


states = st.lists(resources(), max_size=14).map(
    lambda found: State("random", {each.key: each for each in found})
)
scopes = st.sampled_from([Scope("n1"), Scope("n2"), Scope(None)])


@settings(max_examples=60)
@given(scopes, st.lists(states, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_a_history_leaves_no_trace(scope: Scope, history: list[State], random: Any) -> None:
    run = Run(scope)
    run.wander(history, random)
    assert run.snapshot() == from_scratch(scope, history[-1]).snapshot()


@settings(max_examples=40)
@given(states)
def test_everywhere_restricted_to_a_node_is_that_node(state: State) -> None:
    everywhere = from_scratch(Scope(None), state)
    rows: dict[Any, Any] = {}
    for name in NODES:
        rows.update(from_scratch(Scope(name), state).tables.get(ENDPOINTS.name, {}))
    assert everywhere.tables.get(ENDPOINTS.name, {}) == rows


@settings(max_examples=40)
@given(states)
def test_every_address_has_at_most_one_holder_in_the_cluster(state: State) -> None:
    held: list[Address] = []
    routed: list[Any] = []
    for name in NODES:
        run = from_scratch(Scope(name), state)
        for row in run.tables.get(ENDPOINTS.name, {}).values():
            held.extend(set(row.addresses))
            assert row.up == bool(row.addresses)
        routes = run.tables.get(ROUTES.name, {})
        routed += [prefix for prefix, row in routes.items() if row.kind == "local-workload"]
    assert len(held) == len(set(held))
    assert sorted(routed) == sorted(address.prefix for address in held)


@settings(max_examples=40)
@given(states)
def test_a_second_flush_says_nothing(state: State) -> None:
    run = from_scratch(Scope("n1"), state)
    before = run.last
    assert run.flush().deltas == ()
    assert run.last.generation == before.generation + 1
    assert run.last.problems == before.problems
