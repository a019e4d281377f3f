"""State lists for IP sets: whom the rules of active policies mean, by address and by port."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.scenarios.build import document, node, pod, profile
from tests.scenarios.policies import HERE, policy
from tests.scenarios.states import EMPTY, WAYS, Run, State, Way, from_scratch
from tortie.desired.ipsets import (
    ALL_HOSTS,
    ALL_POOLS,
    IPSETS,
    MASQUERADE_POOLS,
    MEMBERS,
    PRESENT,
    IPSetRow,
    Member,
)
from tortie.desired.policies import POLICIES
from tortie.net.addresses import Prefix
from tortie.resources.resource import Resource
from tortie.resources.workload_endpoint import EndpointPort
from tortie.selector import parse

POOLS = {MASQUERADE_POOLS: IPSetRow(), ALL_POOLS: IPSetRow(), ALL_HOSTS: IPSetRow()}
Entry = str | tuple[str, int, int]


def selecting(selector: str) -> tuple[str, IPSetRow]:
    parsed = parse(selector)
    return parsed.unique_id, IPSetRow(meaning=str(parsed))


def sets(*found: tuple[str, IPSetRow]) -> dict[str, IPSetRow]:
    return {**POOLS, **dict(found)}


def holding(found: tuple[str, IPSetRow], entries: Iterable[Entry], *more: Any) -> dict[Member, bool]:
    rows: dict[Member, bool] = {}
    for entry in entries:
        text, protocol, port = (entry, 0, 0) if isinstance(entry, str) else entry
        rows[Member(found[0], Prefix.parse(text), protocol, port)] = PRESENT
    for each in more:
        rows.update(each)
    return rows


def from_peers(
    entity: str, name: str = "a", kind: str = "NetworkPolicy", protocol: str = "TCP"
) -> Resource[Any]:
    return policy(name, f"ingress: [{{action: Allow, protocol: {protocol}, source: {{{entity}}}}}]", kind)


def to_peers(entity: str, protocol: str = "TCP", name: str = "a") -> Resource[Any]:
    return policy(name, f"egress: [{{action: Allow, protocol: {protocol}, destination: {{{entity}}}}}]")


HTTP = (
    EndpointPort(name="http", protocol="TCP", port=8080),
    EndpointPort(name="dns", protocol="UDP", port=53),
)
BASE = EMPTY.then(
    "pods here and elsewhere",
    pod("n1", "web", "10.77.0.1/32", labels={"app": "web"}, ports=HTTP),
    pod("n2", "db", "10.77.0.65/32", "fd77::1/128", labels={"app": "db"}, account="robot"),
    pod("n2", "other", "10.77.0.66/32", labels={"app": "db"}, namespace="else"),
    profile("kns.default", {"pcns.team": "red"}),
    profile("kns.else", {"pcns.team": "blue"}),
    profile("ksa.default.robot", {"pcsa.role": "reader"}),
)
IN_DEFAULT = "projectcalico.org/namespace == 'default'"
DB = selecting(f"({IN_DEFAULT}) && (app == 'db')")
DB_MEMBERS = ("10.77.0.65", "fd77::1")

selectors = [
    BASE.holds(IPSETS, sets()).holds(MEMBERS, {}),
    BASE.then("in its own namespace", from_peers("selector: app == 'db'"))
    .holds(IPSETS, sets(DB))
    .holds(MEMBERS, holding(DB, DB_MEMBERS)),
    BASE.then(
        "in others",
        from_peers("selector: app == 'db', namespaceSelector: team == 'blue'"),
        from_peers("namespaceSelector: all()", "b"),
    )
    .holds(
        IPSETS,
        sets(
            blue := selecting("(pcns.team == 'blue') && (app == 'db')"),
            every := selecting("has(projectcalico.org/namespace)"),
        ),
    )
    .holds(
        MEMBERS,
        holding(blue, ["10.77.0.66"], holding(every, ["10.77.0.1", "10.77.0.65", "fd77::1", "10.77.0.66"])),
    ),
    BASE.then(
        "the team changes",
        from_peers("selector: app == 'db', namespaceSelector: team == 'blue'"),
        profile("kns.default", {"pcns.team": "blue"}),
    ).holds(MEMBERS, holding(blue, ["10.77.0.66", *DB_MEMBERS])),
    BASE.then(
        "by service account",
        from_peers("serviceAccounts: {names: [robot, other], selector: role == 'reader'}"),
    )
    .holds(
        IPSETS,
        sets(
            robots := selecting(
                f"({IN_DEFAULT}) && ((pcsa.role == 'reader') && "
                "(projectcalico.org/serviceaccount in {'other', 'robot'}))"
            )
        ),
    )
    .holds(MEMBERS, holding(robots, DB_MEMBERS)),
    BASE.then("not", from_peers("notSelector: app == 'db'"))
    .holds(IPSETS, sets(own := selecting(IN_DEFAULT), dbs := selecting("app == 'db'")))
    .holds(
        MEMBERS,
        holding(own, ["10.77.0.1", *DB_MEMBERS], holding(dbs, [*DB_MEMBERS, "10.77.0.66"])),
    ),
    BASE.then(
        "two policies, one set",
        from_peers("selector: app == 'db'"),
        to_peers("selector: app == 'db'", name="b"),
    )
    .holds(IPSETS, sets(DB))
    .holds(MEMBERS, holding(DB, DB_MEMBERS)),
    BASE.then(
        "inert rules need none",
        policy("a", "types: [Egress], ingress: [{action: Allow, source: {selector: x == 'y'}}]"),
    )
    .holds(IPSETS, sets())
    .holds(MEMBERS, {}),
    BASE.then(
        "two pods with one address",
        from_peers("selector: app == 'db'"),
        pod("n3", "db", "10.77.0.65/32", labels={"app": "db"}),
    ).holds(MEMBERS, holding(DB, DB_MEMBERS)),
    BASE.then(
        "one of them, elsewhere",
        from_peers("selector: app == 'db'"),
        pod("n2", "db", "10.77.0.99/32", labels={"app": "db"}),
    ).holds(MEMBERS, holding(DB, ["10.77.0.99"])),
    BASE.then("no longer selected", from_peers("selector: app == 'db'"), pod("n2", "db", "10.77.0.99/32"))
    .holds(IPSETS, sets(DB))
    .holds(MEMBERS, {}),
    BASE.then("an invalid policy uses no set", from_peers("selector: app == 'db', nets: [nonsense]"))
    .holds(IPSETS, sets())
    .reports("spec.ingress[0].source.nets[0]: nonsense"),
    BASE.then(
        "for nobody here",
        policy("a", "selector: app == 'no', ingress: [{action: Allow, source: {selector: app == 'db'}}]"),
    )
    .holds(POLICIES, {})
    .holds(IPSETS, sets()),
    BASE.then(
        "a profile's rules",
        document(
            "kind: Profile\nmetadata: {name: kns.default}\n"
            "spec: {egress: [{action: Deny, source: {selector: app == 'db'}}]}\n"
        ),
    )
    .holds(IPSETS, sets(dbs))
    .holds(MEMBERS, holding(dbs, [*DB_MEMBERS, "10.77.0.66"])),
]


def netset(name: str, nets: str, namespace: str = "") -> Resource[Any]:
    kind = "NetworkSet" if namespace else "GlobalNetworkSet"
    where = f", namespace: {namespace}" if namespace else ""
    return document(
        f"kind: {kind}\nmetadata: {{name: {name}{where}, labels: {{app: db}}}}\nspec: {{nets: [{nets}]}}\n"
    )


HEP = """
kind: HostEndpoint
metadata: {name: eth, labels: {app: db}}
spec: {node: n2, interfaceName: eth0, expectedIPs: [172.30.0.12]}
"""
ANYWHERE = "selector: app == 'db', namespaceSelector: global()"
GLOBAL = selecting("(!has(projectcalico.org/namespace)) && (app == 'db')")
networks = [
    BASE.then(
        "a set of its namespace", from_peers("selector: app == 'db'"), netset("s", "192.0.2.0/24", "default")
    ).holds(MEMBERS, holding(DB, ["192.0.2.0/24", *DB_MEMBERS])),
    BASE.then(
        "it inherits the namespace's labels",
        from_peers("selector: app == 'db', namespaceSelector: team == 'red'"),
        netset("s", "0.0.0.0/0, 192.0.2.7/24, 192.0.2.0/24", "default"),
    ).holds(
        MEMBERS,
        holding(
            selecting("(pcns.team == 'red') && (app == 'db')"), ["0.0.0.0/0", "192.0.2.0/24", *DB_MEMBERS]
        ),
    ),
    BASE.then(
        "global ones and hosts",
        from_peers(ANYWHERE),
        netset("g", "192.0.2.0/24"),
        netset("s", "198.51.100.0/24", "default"),
        document(HEP),
    )
    .holds(IPSETS, sets(GLOBAL))
    .holds(MEMBERS, holding(GLOBAL, ["192.0.2.0/24", "172.30.0.12"])),
    BASE.then(
        "two with one network",
        from_peers(ANYWHERE),
        netset("g", "192.0.2.0/24"),
        netset("h", "192.0.2.0/24, fd00::/8"),
    ).holds(MEMBERS, holding(GLOBAL, ["192.0.2.0/24", "fd00::/8"])),
    BASE.then("one of them", from_peers(ANYWHERE), netset("h", "192.0.2.0/24")).holds(
        MEMBERS, holding(GLOBAL, ["192.0.2.0/24"])
    ),
    BASE.then(
        "all interfaces of a node: as one of them, its endpoint has the addresses that it expects",
        from_peers(ANYWHERE),
        node("n2", "172.30.0.12/24", addresses=("198.51.100.9",)),
        document(HEP.replace("eth0", "'*'")),
    ).holds(
        MEMBERS,
        {
            **holding(GLOBAL, ["172.30.0.12"]),
            Member(ALL_HOSTS, Prefix.parse("172.30.0.12")): PRESENT,
            Member(ALL_HOSTS, Prefix.parse("198.51.100.9")): PRESENT,
        },
    ),
]


def only(state: State) -> tuple[str, IPSetRow]:
    """The one set of the state that is no selector's."""
    rows = from_scratch(HERE, state).tables[IPSETS.name]
    (found,) = [(name, row) for name, row in rows.items() if row.holds == "ports" or name.startswith("svc")]
    return found


SLICE = """
kind: EndpointSlice
metadata: {name: dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
endpoints: [{addresses: [10.77.0.70]}, {addresses: [10.77.0.71], conditions: {ready: false}}]
ports: [{name: dns, protocol: UDP, port: 53}, {name: dns-tcp, port: 5353}]
"""
OLDER = """
kind: Endpoints
metadata: {name: dns, namespace: kube-system}
subsets: [{addresses: [{ip: 10.77.0.80}, {ip: "fd77::80"}], ports: [{port: 53, protocol: UDP}]}]
"""
DISCOVERY = "discovery.k8s.io/v1"
TO_DNS = policy(
    "a", "egress: [{action: Allow, destination: {services: {name: dns, namespace: kube-system}}}]"
)
FROM_DNS = from_peers("services: {name: dns, namespace: kube-system}", protocol="UDP")
SLICED = BASE.then("to a service", TO_DNS, document(SLICE, api=DISCOVERY))
NAMED = BASE.then("a named port", to_peers("selector: app == 'web', ports: [http, 443]"))
ELSEWHERE = policy(
    "a", "egress: [{action: Allow, protocol: TCP, destination: {ports: [http]}}]", "GlobalNetworkPolicy"
)
WEB = selecting(f"({IN_DEFAULT}) && (app == 'web')")
to_dns, from_dns, named = only(SLICED), only(BASE.then("from it", FROM_DNS)), only(NAMED)
ports = [
    SLICED.holds(IPSETS, sets(to_dns)).holds(
        MEMBERS,
        holding(
            to_dns,
            [
                ("10.77.0.70", 17, 53),
                ("10.77.0.70", 6, 5353),
                ("10.77.0.71", 17, 53),
                ("10.77.0.71", 6, 5353),
            ],
        ),
    ),
    BASE.then("from a service", FROM_DNS, document(SLICE, api=DISCOVERY))
    .holds(IPSETS, sets(from_dns))
    .holds(MEMBERS, holding(from_dns, ["10.77.0.70", "10.77.0.71"])),
    BASE.then("without slices, Endpoints count", TO_DNS, document(OLDER, api="v1")).holds(
        MEMBERS, holding(to_dns, [("10.77.0.80", 17, 53), ("fd77::80", 17, 53)])
    ),
    BASE.then(
        "beside slices they do not", FROM_DNS, document(OLDER, api="v1"), document(SLICE, api=DISCOVERY)
    ).holds(MEMBERS, holding(from_dns, ["10.77.0.70", "10.77.0.71"])),
    BASE.then(
        "a slice of another service, and names",
        TO_DNS,
        document(SLICE.replace("service-name: dns", "service-name: web"), api=DISCOVERY),
        document(SLICE.replace("dns-1", "dns-2").replace("10.77.0.70", "example.com"), api=DISCOVERY),
    ).holds(MEMBERS, holding(to_dns, [("10.77.0.71", 17, 53), ("10.77.0.71", 6, 5353)])),
    NAMED.holds(IPSETS, sets(WEB, named)).holds(
        MEMBERS, holding(named, [("10.77.0.1", 6, 8080)], holding(WEB, ["10.77.0.1"]))
    ),
    NAMED.then(
        "the port moves",
        pod(
            "n1",
            "web",
            "10.77.0.1/32",
            labels={"app": "web"},
            ports=(EndpointPort(name="http", protocol="tcp", port=9),),
        ),
    ).holds(MEMBERS, holding(named, [("10.77.0.1", 6, 9)], holding(WEB, ["10.77.0.1"]))),
    NAMED.then(
        "of another protocol there is none", to_peers("selector: app == 'web', ports: [http]", "UDP")
    ).holds(MEMBERS, holding(WEB, ["10.77.0.1"])),
    BASE.then("of everyone", ELSEWHERE, pod("n2", "x", "10.77.0.90/32", ports=HTTP)).holds(
        MEMBERS, holding(only(BASE.then("", ELSEWHERE)), [("10.77.0.1", 6, 8080), ("10.77.0.90", 6, 8080)])
    ),
]

LISTS = {"selectors": selectors, "networks": networks, "ports": ports}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("states", LISTS.values(), ids=LISTS.keys())
def test_states(states: list[State], way: Way) -> None:
    way(Run(HERE), states)


def test_ids_are_calicos() -> None:
    assert (to_dns[0][:4], from_dns[0][:10], named[0][:2]) == ("svc:", "svcnoport:", "n:")
    assert len({to_dns[0], from_dns[0], named[0]}) == 3
