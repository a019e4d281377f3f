"""``bird.conf`` from the rows of ``desired.bgp``: pure, and the same text for the same rows.

Written for BIRD 2.0.12 (https://bird.network.cz/?get_doc&f=bird.html). The filters depend on pools and nothing else, so
that a new block or a new pod never makes BIRD read its configuration anew:

- out to peers goes what the agent wrote into the FIB with protocol number 80 (blocks as blackhole, borrowed addresses);
- into the FIB goes what came by BGP, with the node's own address as preferred source, so that a pod sees who called it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tortie.desired.bgp import BGPNodeRow, BGPPeerRow
from tortie.errors import InvalidResource, TortieError
from tortie.net.addresses import Address, Version

ADVERTISED_PROTOCOL = 80
"""The kernel's protocol number of routes that BGP spreads (Calico's ``DefaultRouteProto``)."""
RECOVERY_SECONDS = 8
"""How long a restarted BIRD waits for peers before it trusts what it has: with BIRD's 240 s, one dead node in the mesh would keep
every new route out of the FIB for that long. A living peer takes 1 s until it connects, another when nobody listened yet, and up
to 3 s until it has sent its routes (BIRD 2.0 may sleep so long over work that it has set itself): less loses routes on a busy
machine."""
RESTART_SECONDS = 120
"""How long peers keep our routes while our BIRD is away (Calico's default)."""
SCAN_SECONDS = 10
"""BIRD hears of routes and interfaces from netlink at once; the scan is the safety net."""

_SEVERITIES = {
    "Debug": "all",
    "Info": "{ info, remote, warning, error, auth, fatal, bug }",
    "Warning": "{ warning, error, auth, fatal, bug }",
    "Error": "{ error, auth, fatal, bug }",
    "Fatal": "{ fatal, bug }",
    "None": "{ fatal, bug }",
}


@dataclass(frozen=True, eq=False)
class Rendered:
    """The configuration, and the peers that it cannot hold, by the rows' keys."""

    text: str
    refused: Mapping[str, TortieError] = field(default_factory=dict[str, TortieError])


def render(node: BGPNodeRow | None, peers: Mapping[str, BGPPeerRow]) -> Rendered:
    """The whole file. Without a node row: a BIRD that speaks to nobody and leaves the FIB as it is.

    Raises `InvalidResource` when the node's own row cannot be expressed.
    """
    if node is None:
        return Rendered(_SILENT)
    sections = [_head(node), *(_filters(node, version) for version in _versions(node)), _machine(node)]
    sections.extend(_template(node, version) for version in _versions(node))
    refused: dict[str, TortieError] = {}
    for name in sorted(peers):
        try:
            sections.append(_session(node, name, peers[name]))
        except InvalidResource as error:
            refused[name] = error
    return Rendered("\n".join(sections), refused)


_SILENT = """\
# Written by Tortie's agent, which will overwrite any change. This node speaks no BGP.
log stderr { warning, error, auth, fatal, bug };
router id 127.0.0.1;
protocol device { }
"""


def _versions(node: BGPNodeRow) -> list[Version]:
    versions: list[Version] = []
    if node.ipv4 is not None:
        versions.append(4)
    if node.ipv6 is not None:
        versions.append(6)
    return versions


def _address(node: BGPNodeRow, version: int) -> Address | None:
    return node.ipv4 if version == 4 else node.ipv6


def _workload_patterns(node: BGPNodeRow) -> list[str]:
    return [_quoted(f"{prefix}*", "spec.interfacePrefix") for prefix in node.interface_prefixes]


def _quoted(text: str, what: str) -> str:
    """BIRD's strings have no escapes: what holds a quote or a line's end cannot be said."""
    if '"' in text or "\n" in text or "\0" in text:
        raise InvalidResource(what, None, "holds a double quote or a line's end, which BIRD cannot express")
    return f'"{text}"'


def _head(node: BGPNodeRow) -> str:
    return f"""\
# Written by Tortie's agent for {node.node}, which will overwrite any change.
log stderr {_SEVERITIES.get(node.log_severity, _SEVERITIES["Info"])};
timeformat protocol iso long;
timeformat base iso long;
router id {node.router_id};
graceful restart wait {RECOVERY_SECONDS};
"""


def _filters(node: BGPNodeRow, version: int) -> str:
    exported = sorted(pool.prefix for pool in node.pools if pool.export and pool.prefix.version == version)
    workload = " || ".join(f"ifname ~ {pattern}" for pattern in _workload_patterns(node)) or "false"
    pools = ", ".join(f"{pool}+" for pool in exported)
    inside = f"net ~ [ {pools} ]" if pools else "false"
    return f"""\
filter from_kernel{version} {{  # what this node holds itself is nearer than what any peer says of it
  if krt_source = {ADVERTISED_PROTOCOL} || {workload} then preference = 200;
  accept;
}}
filter to_peers{version} {{
  if source != RTS_INHERIT || krt_source != {ADVERTISED_PROTOCOL} then reject;
  if ! ({inside}) then reject;
  if dest = RTD_BLACKHOLE || {workload} then accept;
  reject;
}}
filter to_kernel{version} {{  # also a borrowed address out of a block of ours: it is longer than our blackhole
  if source != RTS_BGP then reject;
  krt_prefsrc = {_address(node, version)};
  accept;
}}
"""


def _machine(node: BGPNodeRow) -> str:
    versions = _versions(node)
    ignored = [_quoted(name, "spec.ignoredInterfaces") for name in node.ignored_interfaces]
    shown = ", ".join([*(f"-{name}" for name in (*_workload_patterns(node), *ignored)), '"*"'])
    channels = " ".join(f"ipv{version};" for version in versions)
    direct = f"protocol direct {{ {channels} interface {shown}; }}\n" if channels else ""
    kernels = "".join(
        f"""\
protocol kernel kernel{version} {{
  learn;
  persist;
  scan time {SCAN_SECONDS};
  graceful restart;
  merge paths on;
  ipv{version} {{ import filter from_kernel{version}; export filter to_kernel{version}; }};
}}
"""
        for version in versions
    )
    return f"protocol device {{ scan time {SCAN_SECONDS}; }}\n{direct}{kernels}"


def _template(node: BGPNodeRow, version: int) -> str:
    strict = "  strict bind on;\n" if node.bind_to_node_address else ""
    return f"""\
template bgp bgp{version} {{
{strict}  graceful restart on;
  graceful restart time {RESTART_SECONDS};
  connect delay time 1;
  connect retry time 2;
  error wait time 1, 10;
  error forget time 30;
  ipv{version} {{ import all; export filter to_peers{version}; gateway recursive; add paths on; }};
}}
"""


def _session(node: BGPNodeRow, name: str, peer: BGPPeerRow) -> str:
    version = peer.address.version
    own = _address(node, version)
    if own is None:
        raise InvalidResource(
            "spec.peerIP",
            peer.address,
            f"is IPv{version}, and {node.node} has no IPv{version} address for BGP",
        )
    bound = peer.source_address or (own if node.bind_to_node_address else None)
    local = "local" if bound is None else f"local {bound}"
    port = "" if node.listen_port == 179 else f" port {node.listen_port}"
    lines = [
        f"{local}{port} as {node.as_number};",
        f"neighbor {peer.address} port {peer.port} as {peer.as_number};",
    ]
    if peer.ttl_security is not None:
        lines.append(f"multihop {peer.ttl_security};" if peer.ttl_security > 1 else "direct;")
        lines.append("ttl security on;")
    else:
        lines.append("multihop;" if peer.multihop else "direct;")
    if peer.passive:
        lines.append("passive on;")
    if peer.max_restart_seconds is not None:
        lines.append(f"graceful restart time {peer.max_restart_seconds};")
    if peer.keepalive_seconds is not None:
        lines.append(f"keepalive time {peer.keepalive_seconds};")
    if peer.password is not None:
        lines.append(f"password {_quoted(peer.password, 'password')};")
    if peer.next_hop != "auto":
        lines.append(f"ipv{version} {{ next hop {peer.next_hop}; }};")
    comment = f"  # {peer.node}" if peer.node else ""
    body = "".join(f"  {line}\n" for line in lines)
    return f"protocol bgp {name} from bgp{version} {{{comment}\n{body}}}\n"
