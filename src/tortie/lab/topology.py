"""Which nodes a lab has, where they stand on the fabric, and where each keeps its files. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec

from tortie.errors import UsageError
from tortie.net.addresses import Address, Interface, Prefix
from tortie.resources import codec, registry
from tortie.resources.ip_pool import IP_POOL

ROOT = Path("/run/tortie/labs")
"""Where labs keep their state: it is gone with the machine's next start, as the namespaces are."""

FABRIC = Prefix.parse("172.30.0.0/24")
FABRIC_V6 = Prefix.parse("fd00:172:30::/64")
PUBLIC = Prefix.parse("198.51.100.0/24")
PUBLIC_V6 = Prefix.parse("fd00:198:51::/64")
FIRST_NODE = 11
"""node1's place in each network; the fabric's own host (router, etcd) has place 1."""
MOST_NODES = 200

_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")


class Uplink(msgspec.Struct, frozen=True):
    """One interface of a node: its name there, its end's name on the fabric, its addresses and its gateways."""

    name: str
    port: str
    bridge: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]


class LabNode(msgspec.Struct, frozen=True):
    """One node: ``address`` is its first uplink's IPv4 address."""

    name: str
    netns: str
    uplinks: tuple[Uplink, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address of every uplink, without prefix length."""
        return tuple(text.partition("/")[0] for uplink in self.uplinks for text in uplink.addresses)

    @property
    def address(self) -> str:
        return self.addresses[0]


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """A lab as it was asked for; stored beside its state, so that every later command sees the same."""

    name: str
    datastore: Literal["sqlite", "etcd"]
    nodes: tuple[LabNode, ...]
    ipv4_pool: str
    ipv6_pool: str = ""
    ip_autodetection_method: str = "interface=eth0"
    segments: int = 0
    """How large an IPv4 packet the uplinks and the fabric's ports take over to be cut (0: the kernel's 64 KiB)."""

    @property
    def directory(self) -> Path:
        return directory_of(self.name)

    @property
    def fabric_netns(self) -> str:
        return f"{self.name}.fabric"

    @property
    def store_url(self) -> str:
        """The datastore as the machine's own commands reach it."""
        if self.datastore == "sqlite":
            return f"sqlite://{self.directory}/tortie.db"
        return f"etcd+unix://{self.directory}/{ETCD_SOCKET}"

    @property
    def node_store_url(self) -> str:
        """The datastore as the nodes reach it: etcd over the fabric, as on real machines."""
        return self.store_url if self.datastore == "sqlite" else f"etcd://{_place(FABRIC, 1)}:2379"

    def node(self, name: str) -> LabNode:
        """Raises `UsageError` naming the nodes there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(each.name for each in self.nodes)
        raise UsageError(f"lab {self.name} has no node {name!r}: it has {known}")

    def run_dir(self, node: str) -> Path:
        return self.directory / "nodes" / node / "run"

    def state_dir(self, node: str) -> Path:
        return self.directory / "nodes" / node / "state"

    def cni_bin_dir(self, node: str) -> Path:
        return self.directory / "nodes" / node / "cni" / "bin"

    def cni_conf_dir(self, node: str) -> Path:
        return self.directory / "nodes" / node / "cni" / "net.d"

    def pod_netns(self, namespace: str, pod: str) -> str:
        """A namespace has no dot in its name, so these never meet each other or a node's."""
        return f"{self.name}.{namespace}.{pod}"


ETCD_SOCKET = "etcd.sock:0"
"""etcd takes only ``unix://HOST:PORT`` and makes a socket of that name in its working directory."""


def directory_of(name: str) -> Path:
    """Where the lab of this name keeps its state. Raises `UsageError` for what is no name: one that is empty, a path or a
    pattern would mean the files and namespaces of others."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a lab: a lower-case letter, then up to 19 letters, digits or dashes"
        )
    return ROOT / name


def topology(
    *,
    name: str,
    nodes: int,
    datastore: Literal["sqlite", "etcd"] = "sqlite",
    pool: str = "192.168.0.0/16",
    dual_stack: bool = False,
    uplinks: int = 1,
    segments: int = 0,
) -> Topology:
    """The lab that these options ask for. Raises `UsageError`."""
    directory_of(name)
    if not 1 <= nodes <= MOST_NODES:
        raise UsageError(f"--nodes {nodes}: a lab has 1 to {MOST_NODES} nodes")
    try:
        prefix = Prefix.parse(pool)
    except ValueError as error:
        raise UsageError(f"--pool {pool}: {error}; write a network such as 192.168.0.0/16") from None
    if prefix.version != 4:
        raise UsageError(f"--pool {pool}: an IPv4 network is needed; --dual-stack adds IPv6")
    for network, what in ((FABRIC, "the fabric"), (PUBLIC, "the public network")):
        if prefix.overlaps(network):
            raise UsageError(f"--pool {pool} overlaps {network}, {what} of the lab")
    for refusal in _refusals(prefix):
        raise UsageError(f"--pool {pool}: {refusal}")
    return Topology(
        name=name,
        datastore=datastore,
        nodes=tuple(_node(name, place, dual_stack, uplinks) for place in range(1, nodes + 1)),
        ipv4_pool=str(prefix),
        ipv6_pool="fd00:10:65::/48" if dual_stack else "",
        segments=segments,
    )


def block_size(pool: str) -> int:
    """Calico's 26, or the whole of a pool that is smaller."""
    return max(26, Prefix.parse(pool).length)


def _refusals(prefix: Prefix) -> list[str]:
    """Why no node could make its default pool of this."""
    document = {
        "apiVersion": "projectcalico.org/v3",
        "kind": IP_POOL.name,
        "metadata": {"name": "default"},
        "spec": {"cidr": str(prefix), "blockSize": block_size(str(prefix))},
    }
    info = registry.info(IP_POOL)
    findings = info.validate(codec.decode(info, document))
    return [f"{finding.value} {finding.rule}" for finding in findings]


def _place(network: Prefix, place: int) -> Address:
    return Address(network.version, network.value + place)


def gateways(dual_stack: bool) -> tuple[tuple[str, tuple[Interface, ...]], ...]:
    """The fabric's bridges and the addresses of its own host on each."""
    private = (FABRIC, FABRIC_V6) if dual_stack else (FABRIC,)
    public = (PUBLIC, PUBLIC_V6) if dual_stack else (PUBLIC,)
    return tuple(
        (bridge, tuple(Interface(_place(network, 1), network.length) for network in networks))
        for bridge, networks in (("br0", private), ("br1", public))
    )


def _node(lab: str, number: int, dual_stack: bool, uplinks: int) -> LabNode:
    place = FIRST_NODE - 1 + number
    made: list[Uplink] = []
    for index, (bridge, _) in enumerate(gateways(dual_stack)[:uplinks]):
        networks = ((FABRIC, FABRIC_V6), (PUBLIC, PUBLIC_V6))[index][: 2 if dual_stack else 1]
        made.append(
            Uplink(
                name=f"eth{index}",
                port=f"n{number}e{index}",
                bridge=bridge,
                addresses=tuple(
                    str(Interface(_place(network, place), network.length)) for network in networks
                ),
                gateways=tuple(str(_place(network, 1)) for network in networks) if index == 0 else (),
            )
        )
    return LabNode(name=f"node{number}", netns=f"{lab}.node{number}", uplinks=tuple(made))
