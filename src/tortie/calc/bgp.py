"""What this node's BIRD should speak."""

from __future__ import annotations

import hashlib

from tortie.calc.bgp_peer import Unsupported, concerns, is_passive, peer_row
from tortie.calc.bgp_settings import BGPSettings
from tortie.calc.hosts import Host
from tortie.calc.outlet import Outlet, Rows
from tortie.calc.pools import Pool
from tortie.calc.problems import Problems
from tortie.calc.scope import Scope
from tortie.calc.selection import check_selector
from tortie.desired.bgp import BGP_NODE, BGP_PEERS, BGPNodeRow, BGPPeerRow, ExportPool, session_name
from tortie.desired.settings import NODE, SettingsRow
from tortie.desired.table import Problem
from tortie.net.addresses import Address
from tortie.resources.bgp_peer import BGPPeerSpec
from tortie.resources.resource import Resource


class BGPNode:
    """In: `hosts`, `pools`, both settings, BGPPeer. Out: BGP_NODE and BGP_PEERS.

    Of several sessions with one address and port there can be only one: the node's own peer, else the global one, else the
    mesh's. Without a node in the scope there are no sessions: they are between nodes.
    """

    def __init__(
        self,
        scope: Scope,
        hosts: Outlet[str, Host],
        pools: Outlet[str, Pool],
        settings: Outlet[str, SettingsRow],
        bgp: Outlet[str, BGPSettings],
        problems: Problems,
    ) -> None:
        self.nodes = Rows(BGP_NODE)
        self.peers = Rows(BGP_PEERS)
        self._node = scope.node
        self._hosts = hosts
        self._pools = pools
        self._settings = settings
        self._bgp = bgp
        self._problems = problems
        self._specs: dict[str, BGPPeerSpec] = {}
        self._speakers: dict[Address, set[str]] = {}
        """The nodes that speak BGP at each address."""
        self._addresses: dict[str, tuple[Address, ...]] = {}
        self._mesh: dict[str, dict[str, BGPPeerRow]] = {}
        """Sessions of the mesh, by node and name."""
        self._explicit: dict[str, BGPPeerRow] = {}
        self._dirty_hosts: set[str] = set()
        self._dirty_node = True
        self._dirty_all = True
        hosts.subscribe(self._on_host)
        pools.subscribe(self._on_pool)
        settings.subscribe(self._on_pool)
        bgp.subscribe(self._on_settings)

    def _on_host(self, name: str) -> None:
        self._dirty_hosts.add(name)
        self._dirty_all = self._dirty_all or name == self._node
        host = self._hosts.get(name)
        now = () if host is None else tuple(a for a in (host.ipv4, host.ipv6) if a is not None)
        before = self._addresses.pop(name, ())
        if now:
            self._addresses[name] = now
        if now != before:
            for address in {*before, *now}:
                self._dirty_hosts.update(self._speakers.get(address, ()))
            for address in before:
                self._speakers[address].discard(name)
                if not self._speakers[address]:
                    del self._speakers[address]
            for address in now:
                self._speakers.setdefault(address, set()).add(name)
            self._dirty_all = self._dirty_all or bool(self._specs)

    def _on_pool(self, _: str) -> None:
        self._dirty_node = True

    def _on_settings(self, _: str) -> None:
        self._dirty_all = True

    def on_peer(self, name: str, resource: Resource[BGPPeerSpec] | None) -> None:
        if resource is None:
            self._specs.pop(name, None)
        else:
            check_selector(resource.spec.node_selector, "spec.nodeSelector")
            self._specs[name] = resource.spec
        self._dirty_all = True

    def flush(self) -> None:
        if self._node is None:
            return
        if self._dirty_node or self._dirty_all:
            self.nodes.want(self._node, self._node_row(self._node))
        if self._dirty_all:
            self._explicit = self._explicit_peers(self._node)
            self._dirty_hosts.update(self._mesh, (name for name, _ in self._hosts.items()))
        for name in self._dirty_hosts:
            self._mesh[name] = self._mesh_peers(self._node, name)
            if not self._mesh[name]:
                del self._mesh[name]
        if self._dirty_all or self._dirty_hosts:
            self._settle_peers()
        self._dirty_hosts.clear()
        self._dirty_node = self._dirty_all = False

    def _settle_peers(self) -> None:
        wanted = dict(self._explicit)
        taken = {(row.address, row.port) for row in wanted.values()}
        for sessions in self._mesh.values():
            wanted.update((key, row) for key, row in sessions.items() if (row.address, row.port) not in taken)
        for key in [key for key in self.peers.keys() if key not in wanted]:  # noqa: SIM118
            self.peers.want(key, None)
        for key, row in wanted.items():
            self.peers.want(key, row)

    def _speaker(self) -> BGPSettings:
        return self._bgp.get(NODE) or BGPSettings()

    def _node_row(self, node: str) -> BGPNodeRow | None:
        host = self._hosts.get(node)
        if host is None or (host.ipv4 is None and host.ipv6 is None):
            return None
        bgp = self._speaker()
        felix = self._settings.get(NODE) or SettingsRow()
        pools = {ExportPool(prefix=pool.prefix, export=pool.export) for pool in self._pools.values()}
        return BGPNodeRow(
            node=node,
            router_id=str(host.ipv4) if host.ipv4 else _router_id(node),
            as_number=host.as_number or bgp.as_number,
            ipv4=host.ipv4,
            ipv6=host.ipv6,
            listen_port=bgp.listen_port,
            bind_to_node_address=bgp.bind_to_node_address,
            log_severity=bgp.log_severity,
            ignored_interfaces=bgp.ignored_interfaces,
            interface_prefixes=felix.interface_prefixes,
            pools=tuple(sorted(pools, key=lambda pool: (pool.prefix, pool.export))),
            route_protocol=felix.route_protocol,
        )

    def _mesh_peers(self, node: str, peer_name: str) -> dict[str, BGPPeerRow]:
        own, peer = self._hosts.get(node), self._hosts.get(peer_name)
        bgp = self._speaker()
        if own is None or peer is None or own is peer or not bgp.mesh:
            return {}
        if own.is_route_reflector or peer.is_route_reflector:
            return {}
        sessions: dict[str, BGPPeerRow] = {}
        for version in (4, 6):
            here, there = own.address(version), peer.address(version)
            if here is None or there is None or here == there or min(self._speakers[there]) != peer_name:
                continue
            row = BGPPeerRow(
                kind="mesh",
                address=there,
                as_number=peer.as_number or bgp.as_number,
                node=peer_name,
                port=bgp.listen_port,
                source_address=here,
                passive=is_passive(here, there),
                max_restart_seconds=bgp.mesh_restart_seconds,
            )
            sessions[session_name("mesh", there)] = row
        return sessions

    def _explicit_peers(self, node: str) -> dict[str, BGPPeerRow]:
        """The sessions that BGPPeers ask for; a name that comes first wins where two ask for one."""
        host = self._hosts.get(node)
        found: dict[str, BGPPeerRow] = {}
        taken: set[tuple[Address, int]] = set()
        problems: list[Problem] = []
        for name, spec in sorted(self._specs.items(), key=lambda item: (_is_global(item[1]), item[0])):
            if host is None or not concerns(spec, host):
                continue
            try:
                row = peer_row(spec, host, self._name_at)
            except Unsupported as error:
                problems.append(Problem(f"BGPPeer {name}", error.field, error.reason))
                continue
            if row.node == node or (row.address, row.port) in taken:
                continue
            taken.add((row.address, row.port))
            found[session_name(row.kind, row.address, row.port)] = row
        self._problems.report("bgp-peers", problems)
        return found

    def _name_at(self, address: Address) -> str:
        return min(self._speakers.get(address, {""}))


def _is_global(spec: BGPPeerSpec) -> bool:
    return not spec.node and not spec.node_selector


def _router_id(node: str) -> str:
    """For a node without an IPv4 address: 32 bits out of its name, never 0, as an address is written."""
    digest = hashlib.sha1(node.encode(), usedforsecurity=False).digest()
    return str(Address(4, int.from_bytes(digest[:4], "big") or 1))
