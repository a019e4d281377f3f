"""A node with a thousand pods of a hundred applications and five thousand policies: as resources, rows and interfaces."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from tests.scenarios.build import pod, profile
from tortie.calc.graph import CalcGraph
from tortie.calc.scope import Scope
from tortie.datastore.kv_store import KeyValueStore
from tortie.datastore.open import open_keyvalue
from tortie.desired.table import Flush
from tortie.host.routes import Route
from tortie.kernel import netns
from tortie.kernel.rtnetlink import RouteSocket
from tortie.kernel.rtnetlink_codec import VethEnd, new_veth
from tortie.net.addresses import Address, Interface, Prefix
from tortie.resources import codec
from tortie.resources.global_network_policy import GLOBAL_NETWORK_POLICY, GlobalNetworkPolicySpec
from tortie.resources.namespace import NAMESPACE, NamespaceSpec
from tortie.resources.network_policy import NETWORK_POLICY, NetworkPolicySpec
from tortie.resources.resource import Put, Resource, ResourceKey
from tortie.resources.rules import EntityRule, Rule

PODS, POLICIES = 1000, 5000
APPLICATIONS = 100
PER_NAMESPACE = 10
"""Applications of one namespace."""
POOL = "10.65.0.0/16"
_FIRST = {4: Address.parse("10.65.128.0"), 6: Address.parse("fd65::")}
_GATEWAY = Address.parse("169.254.1.1")
_MAC = "ee:ee:ee:ee:ee:ee"
_AT_ONCE = 100
"""Writes in one transaction: etcd takes 128."""


# What there is


def address(number: int, version: int = 4) -> Address:
    return Address(version, _FIRST[version].value + number)  # type: ignore[arg-type]


def interface(number: int) -> str:
    return f"cali{number:x}"


def pods(
    node: str, numbers: Iterable[int] = range(PODS), versions: tuple[int, ...] = (4,)
) -> Iterator[Resource[Any]]:
    """Pod ``number`` belongs to the application ``number % APPLICATIONS``, and has an address of each of these IP versions."""
    for number in numbers:
        application = number % APPLICATIONS
        made = pod(
            node,
            f"p{number}",
            *(str(address(number, version).prefix) for version in versions),
            labels={"app": f"app-{application}", "tier": f"t{application % 3}"},
            namespace=namespace_of(application),
        )
        yield made.with_spec(msgspec.structs.replace(made.spec, interface_name=interface(number)))


def namespace_of(application: int) -> str:
    return f"ns-{application // PER_NAMESPACE}"


def namespaces() -> Iterator[Resource[Any]]:
    for name in (*(f"ns-{number}" for number in range(APPLICATIONS // PER_NAMESPACE)), "default"):
        yield Resource(key=ResourceKey(NAMESPACE, name), spec=NamespaceSpec())
        yield profile(f"kns.{name}", {"pcns.projectcalico.org/name": name})


def peer_of(number: int) -> int:
    """The application that policy ``number`` lets in: another one of its namespace, each of them in turn."""
    application = number % APPLICATIONS
    first, place = application // PER_NAMESPACE * PER_NAMESPACE, application % PER_NAMESPACE
    return first + (place + 1 + number // APPLICATIONS % (PER_NAMESPACE - 1)) % PER_NAMESPACE


def port_of(number: int) -> int:
    return 10_000 + number


def policies(count: int = POLICIES) -> Iterator[Resource[Any]]:
    """Policy ``number`` is for the ten pods of one application: who may reach one port of theirs, and where they may go."""
    for number in range(count):
        application = number % APPLICATIONS
        peer = EntityRule(selector=f"app == 'app-{peer_of(number)}'")
        ports = EntityRule(ports=(port_of(number), "8080:8090"))
        yield Resource(
            key=ResourceKey(NETWORK_POLICY, f"p-{number}", namespace_of(application)),
            spec=NetworkPolicySpec(
                order=100.0,
                selector=f"app == 'app-{application}'",
                types=("Ingress", "Egress"),
                ingress=(Rule(action="Allow", protocol="TCP", source=peer, destination=ports),),
                egress=(
                    Rule(
                        action="Allow",
                        protocol="UDP",
                        destination=EntityRule(nets=("192.0.2.0/24",), ports=(port_of(number),)),
                    ),
                ),
            ),
        )


def broad(name: str, order: float, *rules: Rule, selector: str = "has(app)") -> Resource[Any]:
    """One that selects every pod, in both directions."""
    return Resource(
        key=ResourceKey(GLOBAL_NETWORK_POLICY, name),
        spec=GlobalNetworkPolicySpec(
            order=order, selector=selector, types=("Ingress", "Egress"), ingress=rules, egress=rules
        ),
    )


def last_word() -> Resource[Any]:
    """What lets everything through that the others left: it comes after all of them."""
    return broad("last-word", 2000.0, Rule(action="Allow"))


# Where it goes


def flushed(node: str, resources: Iterable[Resource[Any]]) -> Flush:
    """The rows that come of it."""
    graph = CalcGraph(Scope(node))
    graph.fold([Put(resource) for resource in resources])
    flush: Flush = graph.flush(in_sync=True)
    assert not flush.problems, flush.problems
    return flush


async def store(url: str, resources: Iterable[Resource[Any]]) -> None:
    """Into the datastore, many a transaction."""
    keyvalue = open_keyvalue(url)
    layout = KeyValueStore(keyvalue).layout
    try:
        batch: dict[str, bytes] = {}
        for resource in resources:
            batch[layout.path(resource.key)] = codec.dump(resource)
            if len(batch) == _AT_ONCE:
                await keyvalue.commit(expect={}, put=batch)
                batch = {}
        if batch:
            await keyvalue.commit(expect={}, put=batch)
    finally:
        await keyvalue.close()


def wire(node: str, numbers: Iterable[int] = range(PODS)) -> None:
    """Interfaces for these pods in the node's namespace; their other ends are there too, and nobody is behind them."""
    with RouteSocket(node) as routes:
        failed = routes.batch(
            [
                new_veth(VethEnd(name=interface(number), mac=_MAC, up=True), VethEnd(name=f"p{number:x}"))
                for number in numbers
            ]
        )
        assert not failed, failed


def wire_real(node: str, number: int, namespace: str) -> None:
    """A pod that can talk: its end in a namespace, with what the plugin makes there."""
    descriptor = netns.open_namespace(namespace)
    try:
        with RouteSocket(node) as routes:
            near = VethEnd(name=interface(number), mac=_MAC, up=True)
            routes.create_veth(near, VethEnd(name="eth0", namespace=descriptor))
    finally:
        os.close(descriptor)
    with RouteSocket(namespace) as inside:
        index = inside.need_link("eth0").index
        inside.set_link(index, up=True)
        inside.add_address(index, Interface(address(number), 32))
        inside.replace_route(Route(prefix=_GATEWAY.prefix, scope="link", ifindex=index))
        inside.replace_route(Route(prefix=Prefix.parse("0.0.0.0/0"), gateway=_GATEWAY, ifindex=index))
