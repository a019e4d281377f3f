"""State lists for the whole graph, each run in six ways and compared with a graph that starts in that state."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scenarios.build import affinity, bgp, block, endpoint, felix, node, peer, pool
from tests.scenarios.states import EMPTY, WAYS, Run, State, Way, from_scratch
from tortie.calc.scope import Scope
from tortie.desired.bgp import BGP_NODE, BGP_PEERS, BGPNodeRow, BGPPeerRow, ExportPool
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.ipsets import MEMBERS, PRESENT, Member
from tortie.desired.routes import ROUTES, RouteRow
from tortie.desired.settings import NODE, SETTINGS, SettingsRow
from tortie.net.addresses import Address, Prefix
from tortie.resources.bgp_configuration import CIDRBlock
from tortie.resources.node import NODE as NODE_KIND
from tortie.resources.resource import Invalid, ResourceKey

HERE = Scope("n1")
P, A = Prefix.parse, Address.parse


def members(**ipsets: tuple[str, ...]) -> dict[Member, bool]:
    """Of sets by their names, with an underscore for each dash."""
    return {
        Member(name.replace("_", "-"), P(prefix)): PRESENT
        for name, prefixes in ipsets.items()
        for prefix in prefixes
    }


def to(pod: str, *, advertised: bool = False) -> RouteRow:
    return RouteRow(kind="local-workload", interface=f"cali-{pod}", advertised=advertised)


BLACKHOLE = RouteRow(kind="blackhole", advertised=True)


def key(pod: str, on: str = "n1") -> EndpointKey:
    return EndpointKey("default", f"{on}-k8s-{pod}-eth0")


def row(pod: str, *addresses: str, up: bool = True, revision: str = "1", **more: Any) -> EndpointRow:
    return EndpointRow(
        interface=f"cali-{pod}", addresses=tuple(map(A, addresses)), up=up, revision=revision, **more
    )


# One node, its first pod, its block

POOL = pool("p", "10.77.0.0/16", nat_outgoing=True)
N1, N2, N3 = (node(f"n{i}", f"172.30.0.1{i}/24") for i in (1, 2, 3))
BASE = EMPTY.then("a node and a pool", N1, POOL)
A_BLOCK = "10.77.0.0/26"

first_pod = [
    EMPTY.holds(ROUTES, {}).holds(SETTINGS, {NODE: SettingsRow()}),
    BASE.holds(ROUTES, {})
    .holds(ENDPOINTS, {})
    .holds(
        MEMBERS,
        members(
            all_hosts=("172.30.0.11",),
            all_ipam_pools=("10.77.0.0/16",),
            masq_ipam_pools=("10.77.0.0/16",),
        ),
    ),
    BASE.then("affinity pending", affinity("n1", A_BLOCK, "pending")).holds(ROUTES, {}),
    BASE.then("block before confirmation", affinity("n1", A_BLOCK, "pending"), block(A_BLOCK, "n1")).holds(
        ROUTES, {}
    ),
    BASE.then("confirmed", affinity("n1", A_BLOCK), block(A_BLOCK, "n1")).holds(
        ROUTES, {P(A_BLOCK): BLACKHOLE}
    ),
    BASE.then(
        "a pod",
        affinity("n1", A_BLOCK),
        block(A_BLOCK, "n1", {1: "c-web"}),
        endpoint("n1", "web", "10.77.0.1/32", mac="aa:bb", allow_spoofed_source_prefixes=("192.0.2.0/24",)),
    )
    .holds(ROUTES, {P(A_BLOCK): BLACKHOLE, P("10.77.0.1"): to("web")})
    .holds(
        ENDPOINTS,
        {key("web"): row("web", "10.77.0.1", mac="aa:bb", allowed_sources=(P("192.0.2.0/24"),))},
    ),
    BASE.then(
        "the pod again, on another interface",
        affinity("n1", A_BLOCK),
        block(A_BLOCK, "n1", {1: "c-web"}),
        endpoint("n1", "web", "10.77.0.1/32", interface_name="cali-new", revision="7"),
    )
    .holds(ROUTES, {P(A_BLOCK): BLACKHOLE, P("10.77.0.1"): to("new")})
    .holds(ENDPOINTS, {key("web"): row("new", "10.77.0.1", revision="7")}),
    BASE.then("affinity going", affinity("n1", A_BLOCK, "pendingDeletion"), block(A_BLOCK, "n1")).holds(
        ROUTES, {}
    ),
    BASE.then("only an affinity, stale", affinity("n1", A_BLOCK)).holds(ROUTES, {}),
    BASE.then(
        "two nodes claim the block", affinity("n1", A_BLOCK), affinity("n2", A_BLOCK), block(A_BLOCK, "n2")
    ).holds(ROUTES, {}),
]

# Borrowed addresses, blocks of one address

OTHERS = EMPTY.then(
    "n2 owns the block", N1, N2, POOL, affinity("n2", A_BLOCK), block(A_BLOCK, "n2", {5: "c-web"})
)
borrowed = [
    OTHERS.holds(ROUTES, {}),
    OTHERS.then("we borrow of it", endpoint("n1", "web", "10.77.0.5/32")).holds(
        ROUTES, {P("10.77.0.5"): to("web", advertised=True)}
    ),
    OTHERS.then(
        "the block becomes ours",
        affinity("n1", A_BLOCK),
        block(A_BLOCK, "n1", {5: "c-web"}),
        endpoint("n1", "web", "10.77.0.5/32"),
    ).holds(ROUTES, {P(A_BLOCK): BLACKHOLE, P("10.77.0.5"): to("web")}),
    OTHERS.then(
        "its node lets it go",
        block(A_BLOCK, "", {5: "c-web"}),
        endpoint("n1", "web", "10.77.0.5/32"),
        without=[affinity("n2", A_BLOCK)],
    ).holds(ROUTES, {P("10.77.0.5"): to("web", advertised=True)}),
    OTHERS.then("no pool any more", endpoint("n1", "web", "10.77.0.5/32"), without=[POOL]).holds(
        ROUTES, {P("10.77.0.5"): to("web")}
    ),
    OTHERS.then("n2's own pod", endpoint("n2", "web", "10.77.0.5/32")).holds(ROUTES, {}).holds(ENDPOINTS, {}),
    OTHERS.then(
        "a block of one address",
        affinity("n1", "10.77.9.9/32"),
        block("10.77.9.9/32", "n1", {0: "c-one"}),
        endpoint("n1", "one", "10.77.9.9/32"),
    ).holds(ROUTES, {P("10.77.9.9"): to("one", advertised=True)}),
    EMPTY.then("a pod before its block", N1, N2, POOL, endpoint("n1", "web", "10.77.0.5/32")).holds(
        ROUTES, {P("10.77.0.5"): to("web")}
    ),
    EMPTY.then(
        "a block that is being claimed",
        *(N1, N2, POOL, affinity("n1", A_BLOCK, "pending"), block(A_BLOCK, "n1", {5: "c-web"})),
        endpoint("n1", "web", "10.77.0.5/32"),
    ).holds(ROUTES, {P("10.77.0.5"): to("web")}),
    EMPTY.then(
        "a block that is being let go",
        *(N1, N2, POOL, affinity("n1", A_BLOCK, "pendingDeletion"), block(A_BLOCK, "n1", {5: "c-web"})),
        endpoint("n1", "web", "10.77.0.5/32"),
    ).holds(ROUTES, {P("10.77.0.5"): to("web", advertised=True)}),
]

# Scenario 45: one address, two endpoints

LOCALS = EMPTY.then(
    "the block", N1, N2, POOL, affinity("n1", A_BLOCK), block(A_BLOCK, "n1", {1: "c-b", 2: "c-a"})
)
W_A, W_B = endpoint("n1", "a", "10.77.0.1/32"), endpoint("n1", "b", "10.77.0.1/32")
FAR_A = endpoint("n0", "a", "10.77.0.1/32")
duplicates = [
    LOCALS.then("a alone", W_A).holds(ENDPOINTS, {key("a"): row("a", "10.77.0.1")}),
    LOCALS.then("IPAM gave it to b", W_A, W_B)
    .holds(ROUTES, {P(A_BLOCK): BLACKHOLE, P("10.77.0.1"): to("b")})
    .holds(ENDPOINTS, {key("a"): row("a", up=False), key("b"): row("b", "10.77.0.1")})
    .reports("10.77.0.1 belongs to default/n1-k8s-b-eth0 on n1; its interface is down"),
    LOCALS.then("the holder goes", W_A)
    .holds(ROUTES, {P(A_BLOCK): BLACKHOLE, P("10.77.0.1"): to("a")})
    .holds(ENDPOINTS, {key("a"): row("a", "10.77.0.1")}),
    LOCALS.then("the loser goes", W_B).holds(ENDPOINTS, {key("b"): row("b", "10.77.0.1")}),
    LOCALS.then("a has another address too", endpoint("n1", "a", "10.77.0.1/32", "10.77.0.2/32"), W_B)
    .holds(ROUTES, {P(A_BLOCK): BLACKHOLE, P("10.77.0.1"): to("b"), P("10.77.0.2"): to("a")})
    .holds(ENDPOINTS, {key("a"): row("a", "10.77.0.2"), key("b"): row("b", "10.77.0.1")})
    .reports("10.77.0.1 belongs to default/n1-k8s-b-eth0 on n1"),
    LOCALS.then("IPAM knows nobody: names decide", block(A_BLOCK, "n1"), W_A, W_B)
    .holds(ROUTES, {P(A_BLOCK): BLACKHOLE, P("10.77.0.1"): to("a")})
    .reports("10.77.0.1 belongs to default/n1-k8s-a-eth0"),
    LOCALS.then("a remote one without right to it", FAR_A, W_B)
    .holds(ROUTES, {P(A_BLOCK): BLACKHOLE, P("10.77.0.1"): to("b")})
    .holds(ENDPOINTS, {key("b"): row("b", "10.77.0.1")}),
    LOCALS.then("a remote one by right", block(A_BLOCK, "n1", {1: "c-a"}), FAR_A, W_B)
    .holds(ROUTES, {P(A_BLOCK): BLACKHOLE})
    .holds(ENDPOINTS, {key("b"): row("b", up=False)})
    .reports("10.77.0.1 belongs to default/n0-k8s-a-eth0 on n0"),
    LOCALS.then("the remote one goes", block(A_BLOCK, "n1", {1: "c-a"}), W_B).holds(
        ROUTES, {P(A_BLOCK): BLACKHOLE, P("10.77.0.1"): to("b")}
    ),
    LOCALS.then("one without an interface", endpoint("n1", "x", "10.77.0.3/32", interface_name=""))
    .holds(ENDPOINTS, {})
    .holds(ROUTES, {P(A_BLOCK): BLACKHOLE})
    .reports("names no interface"),
]

# Settings, invalid resources

settings = [
    EMPTY.holds(SETTINGS, {NODE: SettingsRow()}),
    EMPTY.then("default", felix(interface_prefix="cali,tap", route_refresh_interval="2m")).holds(
        SETTINGS, {NODE: SettingsRow(interface_prefixes=("cali", "tap"), route_refresh_seconds=120)}
    ),
    EMPTY.then(
        "the node over the default",
        felix(default_endpoint_to_host_action="Return", nat_port_range="32768:65535"),
        felix("node.n1", default_endpoint_to_host_action="ACCEPT", route_sync_disabled=True),
        felix("node.n2", default_endpoint_to_host_action="Drop"),
    ).holds(
        SETTINGS,
        {
            NODE: SettingsRow(
                endpoint_to_host_action="Accept", nat_port_range=(32768, 65535), route_sync=False
            )
        },
    ),
    EMPTY.then(
        "a selector over the default, the node over the selector",
        node("n1", labels={"rack": "a"}),
        felix(interface_prefix="one", device_route_protocol=80, remove_external_routes=False),
        felix("rack-a", node_selector="rack == 'a'", interface_prefix="two", device_route_protocol=81),
        felix("rack-b", node_selector="rack == 'b'", interface_prefix="three"),
        felix("node.n1", interface_prefix="four"),
    ).holds(
        SETTINGS,
        {NODE: SettingsRow(interface_prefixes=("four",), route_protocol=81, remove_external_routes=False)},
    ),
    EMPTY.then("a broken selector", felix("rack-a", node_selector="rack ==", interface_prefix="two"))
    .holds(SETTINGS, {NODE: SettingsRow()})
    .reports("FelixConfiguration rack-a: spec.nodeSelector"),
    EMPTY.then("nonsense is reported", felix(route_refresh_interval="soon"))
    .holds(SETTINGS, {NODE: SettingsRow()})
    .reports("'soon' is no duration"),
    EMPTY.then("invalid is absent", N2, Invalid(ResourceKey(NODE_KIND, "n1"), "spec.bgp: is a list"))
    .holds(MEMBERS, members(all_hosts=("172.30.0.12",)))
    .reports("Node n1: : spec.bgp: is a list"),
    EMPTY.then(
        "what validation let pass", pool("bad", "10.1.2.3/8"), node("n2", addresses=("fd00::9", "host.local"))
    )
    .holds(MEMBERS, members(all_hosts=("fd00::9",)))
    .reports("IPPool bad"),
    EMPTY.then(
        "two nodes with one address", node("n1", "172.30.0.11/24"), node("n9", "172.30.0.11/24")
    ).holds(MEMBERS, members(all_hosts=("172.30.0.11",))),
]

# BGP


def mesh(peer_address: str, on: str, own: str = "172.30.0.11", **more: Any) -> BGPPeerRow:
    return BGPPeerRow(
        kind="mesh",
        address=A(peer_address),
        as_number=more.pop("as_number", 64512),
        node=on,
        source_address=A(own),
        passive=peer_address > own,
        **more,
    )


def speaker(**more: Any) -> dict[str, BGPNodeRow]:
    known: dict[str, Any] = {
        "node": "n1",
        "router_id": "172.30.0.11",
        "as_number": 64512,
        "ipv4": A("172.30.0.11"),
    }
    return {"n1": BGPNodeRow(**{**known, **more})}


THREE = EMPTY.then("three nodes", N1, N2, N3)
M2, M3 = mesh("172.30.0.12", "n2"), mesh("172.30.0.13", "n3")
bgp_mesh = [
    EMPTY.holds(BGP_NODE, {}).holds(BGP_PEERS, {}),
    EMPTY.then("the others only", N2, N3).holds(BGP_NODE, {}).holds(BGP_PEERS, {}),
    THREE.holds(BGP_NODE, speaker()).holds(BGP_PEERS, {"Mesh_172_30_0_12": M2, "Mesh_172_30_0_13": M3}),
    THREE.then("no mesh", bgp(node_to_node_mesh_enabled=False, as_number="1.5"))
    .holds(BGP_NODE, speaker(as_number=65541))
    .holds(BGP_PEERS, {}),
    THREE.then(
        "a reflector is not of the mesh", node("n3", "172.30.0.13/24", route_reflector_cluster_id="1.0.0.0")
    ).holds(BGP_PEERS, {"Mesh_172_30_0_12": M2}),
    THREE.then(
        "nor are we, being one", node("n1", "172.30.0.11/24", route_reflector_cluster_id="1.0.0.0")
    ).holds(BGP_PEERS, {}),
    EMPTY.then(
        "both versions, an AS of its own",
        node("n1", "172.30.0.11/24", ipv6="fd30::11/64"),
        node("n2", "172.30.0.12/24", ipv6="fd30::12/64", as_number=65001),
        node("n4", ipv6="fd30::2/64"),
    )
    .holds(BGP_NODE, speaker(ipv6=A("fd30::11")))
    .holds(
        BGP_PEERS,
        {
            "Mesh_172_30_0_12": mesh("172.30.0.12", "n2", as_number=65001),
            "Mesh_fd30__12": mesh("fd30::12", "n2", "fd30::11", as_number=65001),
            "Mesh_fd30__2": mesh("fd30::2", "n4", "fd30::11"),
        },
    ),
    EMPTY.then("IPv6 alone", node("n1", ipv6="fd30::11/64")).holds(
        BGP_NODE, speaker(router_id="64.179.234.182", ipv4=None, ipv6=A("fd30::11"))
    ),
    THREE.then(
        "pools and settings",
        POOL,
        pool("q", "10.88.0.0/16", disable_bgp_export=True),
        pool("r", "10.99.0.0/16", disabled=True),
        bgp(
            listen_port=1790,
            bind_mode="NodeIP",
            node_mesh_max_restart_time="90s",
            ignored_interfaces=("docker0",),
        ),
        bgp("node.n1", log_severity_screen="Debug"),
        felix(interface_prefix="tap"),
    )
    .holds(
        BGP_NODE,
        speaker(
            listen_port=1790,
            bind_to_node_address=True,
            log_severity="Debug",
            ignored_interfaces=("docker0",),
            interface_prefixes=("tap",),
            pools=(
                ExportPool(prefix=P("10.77.0.0/16")),
                ExportPool(prefix=P("10.88.0.0/16"), export=False),
                ExportPool(prefix=P("10.99.0.0/16")),
            ),
        ),
    )
    .holds(
        BGP_PEERS,
        {
            "Mesh_172_30_0_12": mesh("172.30.0.12", "n2", port=1790, max_restart_seconds=90),
            "Mesh_172_30_0_13": mesh("172.30.0.13", "n3", port=1790, max_restart_seconds=90),
        },
    ),
    THREE.then(
        "what is not acted on", bgp(service_cluster_ips=(CIDRBlock(cidr="10.96.0.0/12"),), as_number="x")
    )
    .holds(BGP_PEERS, {"Mesh_172_30_0_12": M2, "Mesh_172_30_0_13": M3})
    .reports("spec.serviceClusterIPs: is set", "x is no AS number"),
    EMPTY.then("two claim our peer's address", N1, N2, node("n0", "172.30.0.12/24")).holds(
        BGP_PEERS, {"Mesh_172_30_0_12": mesh("172.30.0.12", "n0")}
    ),
]


def peering(kind: Any, address: str, as_number: int = 64512, **more: Any) -> BGPPeerRow:
    own = A("172.30.0.11")
    return BGPPeerRow(kind=kind, address=A(address), source_address=own, as_number=as_number, **more)


ALONE = EMPTY.then("one node", node("n1", "172.30.0.11/24", labels={"rack": "a"}))
bgp_peers = [
    ALONE.holds(BGP_PEERS, {}),
    ALONE.then("global", peer("tor", "172.30.0.1:1790", 65000, next_hop_mode="Self", ttl_security=1)).holds(
        BGP_PEERS,
        {
            "Global_172_30_0_1_port_1790": peering(
                "global", "172.30.0.1", port=1790, as_number=65000, next_hop="self", ttl_security=1
            )
        },
    ),
    ALONE.then(
        "ours", peer("tor", "172.30.0.1", node="n1", source_address="None", keepalive_time="10s")
    ).holds(
        BGP_PEERS,
        {
            "Node_172_30_0_1": BGPPeerRow(
                kind="node", address=A("172.30.0.1"), as_number=64512, keepalive_seconds=10
            )
        },
    ),
    ALONE.then("by selector", peer("tor", "172.30.0.1", node_selector="rack == 'a'")).holds(
        BGP_PEERS, {"Node_172_30_0_1": peering("node", "172.30.0.1")}
    ),
    ALONE.then("by another selector", peer("tor", "172.30.0.1", node_selector="rack == 'b'")).holds(
        BGP_PEERS, {}
    ),
    ALONE.then("by a broken selector", peer("tor", "172.30.0.1", node_selector="rack =="))
    .holds(BGP_PEERS, {})
    .reports("BGPPeer tor: spec.nodeSelector"),
    ALONE.then("another's", peer("tor", "172.30.0.1", node="n2")).holds(BGP_PEERS, {}),
    ALONE.then(
        "ours over global", peer("all", "172.30.0.1", 65000), peer("one", "172.30.0.1", 65001, node="n1")
    ).holds(BGP_PEERS, {"Node_172_30_0_1": peering("node", "172.30.0.1", as_number=65001)}),
    ALONE.then("a node of ours, over the mesh", N2, peer("n2", "172.30.0.12")).holds(
        BGP_PEERS, {"Global_172_30_0_12": peering("global", "172.30.0.12", node="n2", passive=True)}
    ),
    ALONE.then("ourselves", peer("all", "172.30.0.11")).holds(BGP_PEERS, {}),
    ALONE.then(
        "not acted on", peer("rr", "", None, peer_selector="has(rr)"), peer("f", "172.30.0.1", filters=("x",))
    )
    .holds(BGP_PEERS, {})
    .reports("BGPPeer rr: spec.peerSelector", "BGPPeer f: spec.filters"),
    ALONE.then("nonsense", peer("a", "nowhere"), peer("b", "172.30.0.1", None), peer("c", "fd30::1"))
    .holds(BGP_PEERS, {})
    .reports(
        "BGPPeer a: spec.peerIP: ", "BGPPeer b: spec.asNumber", "BGPPeer c: spec.peerIP: fd30::1 is IPv6"
    ),
    ALONE.then("a global one, without us", peer("tor", "172.30.0.1"), without=ALONE.stored.values()).holds(
        BGP_PEERS, {}
    ),
]

LISTS = {
    "first pod": first_pod,
    "borrowed": borrowed,
    "duplicates": duplicates,
    "settings": settings,
    "mesh": bgp_mesh,
    "peers": bgp_peers,
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("states", LISTS.values(), ids=LISTS.keys())
def test_states(states: list[State], way: Way) -> None:
    run = Run(HERE)
    way(run, states)


def test_a_tour_through_all_states_equals_a_fresh_start() -> None:
    run = Run(HERE)
    for state in [state for states in LISTS.values() for state in states]:
        run.take(run.updates_to(state))
        run.flush()
        assert run.snapshot() == from_scratch(HERE, state).snapshot(), state.name
