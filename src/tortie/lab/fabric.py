"""The lab's wires: namespaces, the fabric's bridges, and a veth pair for each uplink."""

from __future__ import annotations

from collections.abc import Iterable

from tortie.errors import ProgramFailed
from tortie.host.links import SegmentSizes
from tortie.kernel import netns, process, sysctl
from tortie.kernel.rtnetlink import RouteSocket
from tortie.lab.topology import Topology, gateways

SHARED_SYSCTLS = {
    "net/ipv4/neigh/default/gc_thresh1": 4096,
    "net/ipv4/neigh/default/gc_thresh2": 16384,
    "net/ipv4/neigh/default/gc_thresh3": 32768,
    "net/ipv6/neigh/default/gc_thresh1": 4096,
    "net/ipv6/neigh/default/gc_thresh2": 16384,
    "net/ipv6/neigh/default/gc_thresh3": 32768,
    "fs/inotify/max_user_instances": 1024,
}
"""Limits that all namespaces of the machine share, at the least what a lab of many pods needs."""


async def build(topology: Topology) -> None:
    """Make every namespace, bridge and wire. Raises `ProgramFailed`."""
    raise_shared_limits()
    dual_stack = bool(topology.ipv6_pool)
    fabric = topology.fabric_netns
    for name in (fabric, *(node.netns for node in topology.nodes)):
        netns.create(name)
    commands = ["link set lo up"]
    used = {uplink.bridge for node in topology.nodes for uplink in node.uplinks}
    for bridge, addresses in gateways(dual_stack):
        if bridge in used:
            commands += [f"link add {bridge} type bridge", f"link set {bridge} up"]
            commands += [f"addr add {address} dev {bridge} nodad" for address in addresses]
    for node in topology.nodes:
        for uplink in node.uplinks:
            commands.append(f"link add {uplink.port} type veth peer name {uplink.name} netns {node.netns}")
            commands.append(f"link set {uplink.port} master {uplink.bridge} up")
    await _ip(fabric, commands)
    for node in topology.nodes:
        commands = ["link set lo up"]
        for uplink in node.uplinks:
            commands.append(f"link set {uplink.name} up")
            commands += [f"addr add {address} dev {uplink.name} nodad" for address in uplink.addresses]
            commands += [f"route add default via {gateway} dev {uplink.name}" for gateway in uplink.gateways]
        await _ip(node.netns, commands)
    if topology.segments:
        set_segments(
            fabric, (uplink.port for node in topology.nodes for uplink in node.uplinks), topology.segments
        )
        for node in topology.nodes:
            set_segments(node.netns, (uplink.name for uplink in node.uplinks), topology.segments)


def set_segments(namespace: str, names: Iterable[str], size: int) -> None:
    """How large an IPv4 packet these interfaces take over to be cut; not in Debian's ``ip`` yet. Raises `KernelError`."""
    with RouteSocket(namespace) as routes:
        for name in names:
            routes.set_link(routes.need_link(name).index, subject=name, segments=SegmentSizes(ipv4=size))


def raise_shared_limits() -> None:
    """Lift what is lower than a lab needs; never lower anything."""
    for name, least in SHARED_SYSCTLS.items():
        if int(sysctl.read(name)) < least:
            sysctl.write(name, str(least))


async def add_namespace(name: str) -> None:
    """A pod's sandbox: a namespace with its loopback up, as a container runtime hands it to the plugin."""
    netns.create(name)
    await _ip(name, ["link set lo up"])


def delete_namespaces(names: Iterable[str]) -> None:
    """Remove them with all that is in them; those that are gone are no error."""
    for name in names:
        netns.delete(name)


def namespaces_of(lab: str) -> list[str]:
    """Every namespace of the lab: the fabric, the nodes, and the pods."""
    return sorted(path.name for path in netns.DIRECTORY.glob(f"{lab}.*"))


async def _ip(namespace: str, commands: list[str]) -> None:
    text = "".join(f"{command}\n" for command in commands)
    try:
        await process.run(["ip", "-n", namespace, "-batch", "-"], stdin=text.encode(), timeout_seconds=60)
    except ProgramFailed as error:
        raise ProgramFailed(f"ip in {namespace}", error.status, error.stderr_tail) from None
