"""Questions about policies in files: verdicts, who is meant, nearest rules, stand-ins and what hangs on them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.diagnostics.shop import FROM_NET, PODS, POOL, WEB_FROM_CLIENTS, cluster
from tortie.diagnostics.cluster import Cluster
from tortie.diagnostics.explain import Answer, Question, explain
from tortie.diagnostics.ports import Port, parse_port
from tortie.diagnostics.telling import tell
from tortie.errors import UsageError
from tortie.net.addresses import Address, Prefix

STEP = {"tier", "kind", "namespace", "name", "rule", "action", "matched", "file", "line"}


def ask(world: Cluster, source: str, destination: str, port: str = "http", **others: Any) -> Answer:
    return explain(world, Question(source=source, destination=destination, port=parse_port(port), **others))


def test_without_policy_the_namespaces_profile_allows() -> None:
    answer = ask(cluster(), "other/stranger", "shop/web")
    assert answer.verdict == "allow"
    assert answer.journey.ingress.decided_by == "profile"
    assert not answer.notes


def test_a_kubernetes_policy_isolates_and_opens() -> None:
    world = cluster(WEB_FROM_CLIENTS)
    assert ask(world, "shop/client", "shop/web").verdict == "allow"
    denied = ask(world, "other/stranger", "shop/web")
    assert (denied.verdict, denied.journey.ingress.decided_by) == ("deny", "tier-end")
    near = denied.journey.ingress.near_miss
    assert near is not None
    assert near.field == "source.selector"
    assert near.wanted == "app == 'client' in namespace shop"
    assert near.got == "other/stranger with app=client"
    text = tell(denied)
    assert (
        "Kubernetes' implicit isolation: KubernetesNetworkPolicy shop/web selects shop/web for ingress"
        in text
    )
    assert "source.selector wants app == 'client' in namespace shop" in text
    assert "no policy selects it for egress" in text


def test_the_document_is_what_was_promised() -> None:
    world = cluster(WEB_FROM_CLIENTS)
    document = ask(world, "shop/client", "shop/web", "443").document()
    assert set(document) == {"verdict", "egress", "ingress"}
    for direction in ("egress", "ingress"):
        decision = document[direction]
        assert set(decision) == {"verdict", "endpoint", "decided_by", "steps", "near_miss"}
        assert all(set(step) == STEP for step in decision["steps"])
    assert document["ingress"]["endpoint"] == "shop/web"
    assert document["ingress"]["steps"] == [
        {
            "tier": "default",
            "kind": "KubernetesNetworkPolicy",
            "namespace": "shop",
            "name": "web",
            "rule": 0,
            "action": "Allow",
            "matched": False,
            "file": "1.yaml",
            "line": 8,
        },
        {
            "tier": "default",
            "kind": None,
            "namespace": None,
            "name": None,
            "rule": None,
            "action": "Deny",
            "matched": True,
            "file": None,
            "line": None,
        },
    ]
    near = document["ingress"]["near_miss"]
    assert set(near) == {"rule", "field", "wanted", "got"}
    assert (near["field"], near["wanted"], near["got"]) == ("destination.ports", "http", "443")
    outside = ask(world, "198.51.100.1", "shop/web", "443").document()
    assert outside["egress"] == {
        "verdict": None,
        "endpoint": None,
        "decided_by": None,
        "steps": [],
        "near_miss": None,
    }


def test_ends_are_found_by_name_and_by_address() -> None:
    world = cluster()
    pod = world.pods["shop/web"]
    by_address = ask(world, "172.30.0.2", str(pod.addresses[0]))
    assert (by_address.source.name, by_address.destination.name) == ("node two", "shop/web")
    assert "by its address" in by_address.destination.found_by
    assert ask(world, "two", "shop/web").source.addresses == (Address.parse("172.30.0.2"),)
    assert "its own pods" in ask(world, "one", "shop/web").journey.ingress.reason
    assert ask(world, "shop/client", "two", "80").journey.ingress.decided_by == "host"


@pytest.mark.parametrize(
    ("source", "destination", "port", "says"),
    [
        ("shop/nobody", "shop/web", "80", "those of shop: shop/client, shop/web"),
        ("nowhere/x", "shop/web", "80", "nowhere has none"),
        ("shop/on-host", "shop/web", "80", "in its node's own network: ask for the node two"),
        ("three", "shop/web", "80", "a node (one, two)"),
        ("shop/client", "shop/web", "dns", "no tcp port of that name; its names: dns, http"),
        ("shop/client", "one", "http", "only pods name their ports"),
        ("fd00::1", "shop/web", "80", "over IP: fd00::1 has IPv6"),
    ],
)
def test_what_cannot_be_answered_says_why(source: str, destination: str, port: str, says: str) -> None:
    with pytest.raises(UsageError, match=says.replace("(", r"\(").replace(")", r"\)")):
        ask(cluster(), source, destination, port)


SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, 'fd96::a']
  externalIPs: [203.0.113.5]
  ports: [{name: web, port: 80}, {name: dns, port: 53, protocol: UDP}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.6}, {hostname: lb.example}]}}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: shop}
spec: {clusterIP: 10.96.0.11, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: shop}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: old, namespace: shop}
spec: {clusterIP: 10.96.0.12, ports: [{port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: old, namespace: shop}
subsets:
- addresses: [{ip: 203.0.113.70}, {ip: 203.0.113.71}]
  notReadyAddresses: [{ip: 203.0.113.72}]
  ports: [{port: 9000}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: front-1, namespace: shop, labels: {kubernetes.io/service-name: front}}
addressType: IPv4
endpoints:
- {addresses: [%s]}
- {addresses: [10.9.9.9], conditions: {ready: false}}
- {addresses: [10.9.9.10]}
ports: [{name: web, port: 8080, protocol: TCP}, {name: dns, port: 5353, protocol: UDP}]
"""


INSTEAD = "is the cluster IP of service shop/front; policy is asked of what it is translated to: ask for one of its backends:"


@pytest.mark.parametrize(
    ("destination", "port", "says"),
    [
        ("10.96.0.10", "80/tcp", f"{INSTEAD} shop/web --port 8080/tcp, 10.9.9.10 --port 8080/tcp"),
        ("fd96::a", "53/udp", f"{INSTEAD} shop/web --port 5353/udp, 10.9.9.10 --port 5353/udp"),
        ("203.0.113.5", "web", "is an address of service shop/front;"),
        ("203.0.113.6", "80", "is an address of service shop/front;"),
        ("shop/front", "80", "is a service; policy is asked"),
        (
            "10.96.0.10",
            "81/tcp",
            "of service shop/front, which has no port 81/tcp; its ports: 80/tcp, 53/udp",
        ),
        ("10.96.0.11", "80/tcp", "of service shop/empty; nothing is ready behind it"),
        ("10.96.0.12", "80/tcp", "203.0.113.70 --port 9000/tcp, 203.0.113.71 --port 9000/tcp"),
        ("shop/headless", "80/tcp", "there is no such pod"),
    ],
)
def test_of_a_service_it_says_whom_to_ask_for_instead(destination: str, port: str, says: str) -> None:
    web = cluster().pods["shop/web"].addresses[0]
    with pytest.raises(UsageError) as raised:
        ask(cluster(SERVICES % str(web)), "shop/client", destination, port)
    assert str(raised.value).startswith(f"--to {destination}")
    assert says in str(raised.value)
    if "ask for one" in says:
        assert str(raised.value).endswith(says)
    with pytest.raises(UsageError, match=r"--from 10\.96\.0\.10 is the cluster IP"):
        ask(cluster(SERVICES % str(web)), "10.96.0.10", "shop/web")


def test_an_answer_that_hangs_on_an_address_says_so() -> None:
    answer = ask(cluster(FROM_NET), "shop/client", "shop/web")
    assert answer.verdict == "deny"
    assert len(answer.notes) == 1
    assert "depends on an address: shop/client has no address yet" in answer.notes[0]
    assert "NetworkPolicy shop/net" in answer.notes[0]
    assert answer.document()["notes"] == list(answer.notes)
    assert "note: the answer depends" in tell(answer)


@pytest.mark.parametrize(
    ("cidr", "verdict"), [("10.1.0.0/16", "allow"), ("192.168.0.0/16", "deny"), ("10.0.0.0/8", "allow")]
)
def test_with_the_pool_known_it_may_hang_on_nothing(cidr: str, verdict: str) -> None:
    answer = ask(cluster(FROM_NET, POOL % cidr), "shop/client", "shop/web")
    assert (answer.verdict, answer.notes) == (verdict, ())
    assert Prefix.parse(cidr).holds(answer.packet.source)


def test_a_rule_on_nets_that_decides_nothing_leaves_no_doubt() -> None:
    opened = WEB_FROM_CLIENTS + "---" + FROM_NET
    assert not ask(cluster(opened), "shop/client", "shop/web").notes
    assert ask(cluster(opened), "other/stranger", "shop/web").notes


def test_a_pods_real_address_is_taken() -> None:
    real = PODS.replace(
        "spec: {nodeName: two, serviceAccountName: payer}",
        "spec: {nodeName: two, serviceAccountName: payer}\nstatus: {podIP: 10.9.9.9, podIPs: [{ip: 10.9.9.9}, {ip: 'fd00::9'}]}",
    )
    world = cluster(FROM_NET, pods=(real,))
    answer = ask(world, "shop/client", "shop/web")
    assert (answer.verdict, str(answer.packet.source), answer.notes) == ("allow", "10.9.9.9", ())
    finished = real.replace("podIP: 10.9.9.9,", "phase: Succeeded, podIP: 10.9.9.9,")
    assert "shop/client" not in cluster(pods=(finished,)).pods


def test_labels_of_namespace_and_account_are_inherited() -> None:
    rules = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  selector: app == 'web'
  ingress:
  - {action: Allow, protocol: TCP, source: {namespaceSelector: team == 'b'}, destination: {ports: [1]}}
  - {action: Allow, protocol: TCP, source: {serviceAccounts: {selector: may == 'pay'}}, destination: {ports: [2]}}
"""
    world = cluster(rules)
    assert ask(world, "other/stranger", "shop/web", "1").verdict == "allow"
    assert ask(world, "shop/client", "shop/web", "2").verdict == "allow"
    first = "\n".join(line for line in rules.splitlines() if "serviceAccounts" not in line)
    denied = ask(cluster(first), "shop/client", "shop/web", "1").journey.ingress.near_miss
    assert denied is not None
    assert (denied.field, denied.wanted) == ("source.namespaceSelector", "team == 'b'")
    assert (
        "in a namespace with kubernetes.io/metadata.name=shop, projectcalico.org/name=shop, team=a"
        in denied.got
    )
    second = "\n".join(line for line in rules.splitlines() if "namespaceSelector" not in line)
    other = ask(cluster(second), "other/stranger", "shop/web", "2").journey.ingress.near_miss
    assert other is not None
    assert "as service account default" in other.got


def test_both_ip_versions_are_asked() -> None:
    pools = POOL % "10.0.0.0/16" + "---" + (POOL % "fd00::/64").replace("name: pods", "name: six")
    world = cluster(FROM_NET, pools)
    answer = ask(world, "shop/client", "shop/web")
    assert answer.verdict == "allow"
    assert answer.notes == ("over IPv6 the verdict is deny: ask with --ip-version 6",)
    assert ask(world, "shop/client", "shop/web", ip_version=6).verdict == "deny"
    ping = ask(world, "shop/client", "shop/web", "icmp", ip_version=6)
    assert (ping.packet.protocol, ping.packet.icmp_type, ping.packet.destination_port) == (58, 128, None)


def test_an_invalid_policy_denies_and_says_that_it_is_invalid() -> None:
    from tests.unit.diagnostics.shop import updates
    from tortie.diagnostics.cluster import build
    from tortie.resources.network_policy import NetworkPolicySpec
    from tortie.resources.resource import Put

    broken = updates(PODS, FROM_NET)
    policy = broken.pop()
    assert isinstance(policy, Put)
    spec = NetworkPolicySpec(selector="app ==", ingress=policy.resource.spec.ingress)
    world = build([*broken, Put(policy.resource.with_spec(spec))])
    answer = ask(world, "shop/client", "shop/web")
    assert answer.verdict == "deny"
    assert "invalid and therefore denying: spec.selector" in tell(answer)
    assert world.problems


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("80", Port(6, 80)),
        ("80/tcp", Port(6, 80)),
        ("53/UDP", Port(17, 53)),
        ("5000/sctp", Port(132, 5000)),
        ("http", Port(6, name="http")),
        ("My-Port/udp", Port(17, name="My-Port")),
        ("icmp", Port(1)),
        ("icmp/3/1", Port(1, type=3, code=1)),
        ("icmp/8", Port(1, type=8, code=0)),
        ("icmpv6", Port(58, type=128, code=0)),
        ("proto/47", Port(47)),
    ],
)
def test_ports(text: str, port: Port) -> None:
    assert parse_port(text) == port


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "65536",
        "80/http",
        "80/tcp/1",
        "tcp",
        "icmp/256",
        "icmp/a",
        "proto/6",
        "proto",
        "a b",
        "-1",
        "²",
    ],
)
def test_no_ports(text: str) -> None:
    with pytest.raises(UsageError, match="write 80/tcp"):
        parse_port(text)


TO_SERVICE = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: to-web, namespace: shop}
spec:
  selector: app == 'client'
  egress: [{action: Allow, destination: {services: {name: web}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.1.0.77]}]
"""


def test_a_service_whose_address_may_be_the_pods_leaves_a_doubt() -> None:
    world = cluster(TO_SERVICE)
    answer = ask(world, "shop/client", "shop/web")
    assert answer.verdict == "deny"
    assert "shop/web has no address yet, and NetworkPolicy shop/to-web" in answer.notes[0]
    near = answer.journey.egress.near_miss
    assert near is not None
    assert (near.field, near.wanted) == ("destination.services", "web")
    assert near.got == f"{answer.packet.destination} port 8080"
    assert not ask(world, "shop/client", "shop/web", "8081").notes
    assert not ask(world, "shop/client", "10.1.0.77", "8080").notes


def test_icmp_of_one_ip_version_goes_over_that() -> None:
    world = cluster(POOL % "10.1.0.0/16", (POOL % "fd00:1::/64").replace("name: ", "name: six-"))
    assert ask(world, "shop/client", "shop/web", "icmp").packet.protocol == 1
    assert ask(world, "shop/client", "shop/web", "icmpv6").packet.source.version == 6
    assert ask(world, "shop/client", "shop/web", "icmp/3").packet.source.version == 4
    with pytest.raises(UsageError, match="no packet goes"):
        ask(cluster(), "shop/client", "shop/web", "icmpv6")
