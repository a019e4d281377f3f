"""rtnetlink messages: values of ``host`` to requests and back (rtnetlink(7), ``linux/rtnetlink.h``, ``linux/if_link.h``).

Requests can be collected and sent together with `NetlinkSocket.batch`. Pure.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tortie.host.links import COMMON_SEGMENTS, UNKNOWN_SEGMENTS, Link, LinkAddress, Neighbour, SegmentSizes
from tortie.host.routes import Route, RouteKind, Scope
from tortie.kernel import netlink as nl
from tortie.net.addresses import BITS, Address, Interface, Prefix

NEW_LINK, DEL_LINK, GET_LINK, SET_LINK = 16, 17, 18, 19
NEW_ADDRESS, DEL_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, DEL_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEIGHBOUR, DEL_NEIGHBOUR, GET_NEIGHBOUR = 28, 29, 30
NEW_NETCONF = 80

FAMILY: dict[int, int] = {4: socket.AF_INET, 6: socket.AF_INET6}

_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING = 0x1, 0x8, 0x40
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_NET_NS_FD, _IFLA_EXT_MASK, _IFLA_LINK_NETNSID = 18, 28, 29, 37
_IFLA_NUM_TX, _IFLA_NUM_RX = 31, 32
_IFLA_GSO_MAX_SIZE, _IFLA_GSO_IPV4_MAX_SIZE = 41, 63
_IFLA_AF_SPEC, _IFLA_INET_CONF, _IFLA_INET6_CONF = 26, 1, 2
IPV4_SWITCHES = {"forwarding": 1, "proxy_arp": 3, "rp_filter": 8, "route_localnet": 26}
"""Places in the kernel's array, counted from 1 (``linux/ip.h``)."""
IPV6_SWITCHES = {"forwarding": 0, "accept_ra": 3, "proxy_ndp": 22, "disable_ipv6": 26, "accept_dad": 27}
"""Places in the kernel's array, counted from 0 (``linux/ipv6.h``)."""
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_SKIP_STATS = 1 << 3

_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_NODAD, _IFA_F_TENTATIVE, _IFA_F_PERMANENT = 0x2, 0x40, 0x80

_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 4, 5, 6, 7
_RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = 9, 15, 18
_RTNH_ONLINK = 4
_CLONED = 0x200
_ROUTE = struct.Struct("=BBBBBBBBI")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_NUD_PERMANENT, _NTF_PROXY, _NTF_LEARNED = 0x80, 0x08, 0x10

_KINDS: dict[int, RouteKind] = {
    1: "unicast", 2: "local", 3: "broadcast", 6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw",
}  # fmt: skip
_KIND_NUMBERS: dict[RouteKind, int] = {kind: number for number, kind in _KINDS.items()}
_SCOPES: dict[int, Scope] = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
_SCOPE_NUMBERS: dict[Scope, int] = {scope: number for number, scope in _SCOPES.items()}


def _mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


# Links


def get_link(name: str) -> nl.Request:
    body = _LINK.pack(0, 0, 0, 0, 0) + nl.text(_IFLA_IFNAME, name) + nl.u32(_IFLA_EXT_MASK, _SKIP_STATS)
    return nl.Request(GET_LINK, 0, body, "read the interface", name)


def get_link_by_index(index: int) -> nl.Request:
    body = _LINK.pack(0, 0, index, 0, 0) + nl.u32(_IFLA_EXT_MASK, _SKIP_STATS)
    return nl.Request(GET_LINK, 0, body, "read the interface", f"#{index}")


def dump_links() -> nl.Request:
    body = _LINK.pack(0, 0, 0, 0, 0) + nl.u32(_IFLA_EXT_MASK, _SKIP_STATS)
    return nl.Request(GET_LINK, 0, body, "list the interfaces")


def set_link(
    index: int,
    *,
    subject: str,
    up: bool | None = None,
    mtu: int | None = None,
    mac: str | None = None,
    name: str | None = None,
    master: int | None = None,
    namespace: int | None = None,
    segments: SegmentSizes = UNKNOWN_SEGMENTS,
    switches: Mapping[str, int] | None = None,
) -> nl.Request:
    """Change an interface; None leaves a thing as it is. ``namespace`` (a descriptor) moves it there; ``switches`` are of IPv4,
    as `decode_link_with_switches` names them."""
    body = _LINK.pack(0, 0, index, _IFF_UP if up else 0, 0 if up is None else _IFF_UP)
    if mtu is not None:
        body += nl.u32(_IFLA_MTU, mtu)
    if mac is not None:
        body += nl.attr(_IFLA_ADDRESS, _mac_bytes(mac))
    if name is not None:
        body += nl.text(_IFLA_IFNAME, name)
    if master is not None:
        body += nl.u32(_IFLA_MASTER, master)
    if namespace is not None:
        body += nl.u32(_IFLA_NET_NS_FD, namespace)
    body += _segment_sizes(segments)
    if switches:
        values = [nl.u32(IPV4_SWITCHES[name.removeprefix("ipv4/")], on) for name, on in switches.items()]
        conf = nl.nested(_IFLA_INET_CONF, *values)
        body += nl.nested(_IFLA_AF_SPEC, nl.nested(socket.AF_INET, conf))
    return nl.Request(SET_LINK, 0, body, "change the interface", subject)


def delete_link(index: int, *, subject: str) -> nl.Request:
    return nl.Request(DEL_LINK, 0, _LINK.pack(0, 0, index, 0, 0), "delete the interface", subject)


@dataclass(frozen=True, kw_only=True)
class VethEnd:
    """One end of a veth pair to be made. ``namespace`` is a descriptor (None: the socket's own namespace).

    What is 0 leaves the kernel's choice.
    """

    name: str
    mac: str = ""
    mtu: int = 0
    up: bool = False
    namespace: int | None = None
    queues: int = 0
    segments: SegmentSizes = UNKNOWN_SEGMENTS


def _veth_end(end: VethEnd) -> tuple[bytes, bytes]:
    flags = _IFF_UP if end.up else 0
    parts = nl.text(_IFLA_IFNAME, end.name)
    if end.mac:
        parts += nl.attr(_IFLA_ADDRESS, _mac_bytes(end.mac))
    if end.mtu:
        parts += nl.u32(_IFLA_MTU, end.mtu)
    if end.namespace is not None:
        parts += nl.u32(_IFLA_NET_NS_FD, end.namespace)
    if end.queues:
        parts += nl.u32(_IFLA_NUM_TX, end.queues) + nl.u32(_IFLA_NUM_RX, end.queues)
    parts += _segment_sizes(end.segments)
    return _LINK.pack(0, 0, 0, flags, flags), parts


def _segment_sizes(sizes: SegmentSizes) -> bytes:
    """A kernel before 6.3 passes over IPv4's own size, and takes IPv6's for both, as newer ones do up to the common one."""
    parts = nl.u32(_IFLA_GSO_MAX_SIZE, sizes.ipv6) if sizes.ipv6 else b""
    return parts + nl.u32(_IFLA_GSO_IPV4_MAX_SIZE, sizes.ipv4) if sizes.ipv4 else parts


def _decode_segment_sizes(found: Mapping[int, bytes]) -> SegmentSizes:
    ipv6 = nl.as_u32(found.get(_IFLA_GSO_MAX_SIZE, bytes(4)))
    if _IFLA_GSO_IPV4_MAX_SIZE in found:
        return SegmentSizes(nl.as_u32(found[_IFLA_GSO_IPV4_MAX_SIZE]), ipv6)
    return SegmentSizes(min(ipv6, COMMON_SEGMENTS), ipv6)


def new_veth(near: VethEnd, far: VethEnd) -> nl.Request:
    """A veth pair. Only the near end can be made up at once: the kernel opens the far one before it has a peer."""
    if far.up:
        raise ValueError(f"the far end {far.name} of a veth pair cannot be made up; set it up afterwards")
    near_header, near_parts = _veth_end(near)
    far_header, far_parts = _veth_end(far)
    info = nl.nested(
        _IFLA_LINKINFO,
        nl.text(_INFO_KIND, "veth"),
        nl.nested(_INFO_DATA, nl.attr(_VETH_PEER, far_header + far_parts)),
    )
    body = near_header + near_parts + info
    return nl.Request(
        NEW_LINK, nl.CREATE | nl.EXCLUSIVE, body, "make the veth pair", f"{near.name} and {far.name}"
    )


def new_link(name: str, kind: str, *, up: bool = False, mtu: int = 0, mac: str = "") -> nl.Request:
    """A virtual interface that needs no further data: ``dummy``, ``ifb``, ``bridge``."""
    header, parts = _veth_end(VethEnd(name=name, mac=mac, mtu=mtu, up=up))
    body = header + parts + nl.nested(_IFLA_LINKINFO, nl.text(_INFO_KIND, kind))
    return nl.Request(NEW_LINK, nl.CREATE | nl.EXCLUSIVE, body, f"make the {kind} interface", name)


def decode_name(body: bytes) -> tuple[int, str]:
    """An interface's index and name alone: ten times faster than all of it."""
    for kind, payload in nl.attribute_list(body, 16):
        if kind == _IFLA_IFNAME:
            return _LINK.unpack_from(body)[2], nl.as_text(payload)
    return _LINK.unpack_from(body)[2], ""


def decode_link(body: bytes, found: Mapping[int, bytes] | None = None) -> Link:
    """``found``: its attributes, where they are parsed already."""
    _family, _type, index, flags, _change = _LINK.unpack_from(body)
    if found is None:
        found = nl.attributes(body, 16)
    kind = ""
    if _IFLA_LINKINFO in found:
        kind = nl.as_text(nl.attributes(found[_IFLA_LINKINFO]).get(_INFO_KIND, b""))
    namespace = found.get(_IFLA_LINK_NETNSID)
    return Link(
        name=nl.as_text(found.get(_IFLA_IFNAME, b"")),
        index=index,
        kind=kind,
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=nl.as_u32(found.get(_IFLA_MTU, b"\0\0\0\0")),
        segments=_decode_segment_sizes(found),
        up=bool(flags & _IFF_UP),
        running=bool(flags & _IFF_RUNNING),
        loopback=bool(flags & _IFF_LOOPBACK),
        master=nl.as_u32(found.get(_IFLA_MASTER, b"\0\0\0\0")),
        peer=nl.as_u32(found.get(_IFLA_LINK, b"\0\0\0\0")),
        peer_namespace=struct.unpack("=i", namespace)[0] if namespace else -1,
    )


def decode_link_with_switches(body: bytes) -> tuple[Link, dict[str, int]]:
    """Both of an interface, parsed once."""
    found = nl.attributes(body, 16)
    return decode_link(body, found), _decode_switches(found)


def _decode_switches(found: Mapping[int, bytes]) -> dict[str, int]:
    """The switches of an interface that its message tells, as they stand under /proc/sys/net, less the interface's name.

    ``ipv4/proxy_arp``: see `IPV4_SWITCHES` and `IPV6_SWITCHES`. One dump replaces ten files an interface.
    """
    spec = nl.attributes(found.get(_IFLA_AF_SPEC, b""))
    switches: dict[str, int] = {}
    four = nl.attributes(spec.get(socket.AF_INET, b"")).get(_IFLA_INET_CONF, b"")
    for name, place in IPV4_SWITCHES.items():
        if 4 * place <= len(four):
            switches[f"ipv4/{name}"] = struct.unpack_from("=i", four, 4 * (place - 1))[0]
    six = nl.attributes(spec.get(socket.AF_INET6, b"")).get(_IFLA_INET6_CONF, b"")
    for name, place in IPV6_SWITCHES.items():
        if 4 * place < len(six):
            switches[f"ipv6/{name}"] = struct.unpack_from("=i", six, 4 * place)[0]
    return switches


# Addresses


def dump_addresses(version: int = 0, index: int = 0) -> nl.Request:
    """All addresses, or those of one IP version, or of one interface."""
    body = _ADDRESS.pack(FAMILY.get(version, 0), 0, 0, 0, index)
    return nl.Request(GET_ADDRESS, 0, body, "list the addresses")


def new_address(
    index: int,
    address: Interface,
    *,
    subject: str = "",
    scope: int = 0,
    no_dad: bool = False,
    replace: bool = True,
) -> nl.Request:
    """Give an interface an address; ``no_dad`` skips IPv6's duplicate address detection."""
    flags = nl.CREATE | (nl.REPLACE if replace else nl.EXCLUSIVE)
    return nl.Request(
        NEW_ADDRESS,
        flags,
        _address_body(index, address, scope, _IFA_F_NODAD if no_dad else 0),
        "add the address",
        f"{address} to {subject or f'#{index}'}",
    )


def delete_address(index: int, address: Interface, *, subject: str = "") -> nl.Request:
    body = _address_body(index, address, 0, 0)
    return nl.Request(DEL_ADDRESS, 0, body, "remove the address", f"{address} from {subject or f'#{index}'}")


def _address_body(index: int, address: Interface, scope: int, flags: int) -> bytes:
    packed = address.address.packed
    return (
        _ADDRESS.pack(FAMILY[address.address.version], address.length, 0, scope, index)
        + nl.attr(_IFA_LOCAL, packed)
        + nl.attr(_IFA_ADDRESS, packed)
        + nl.u32(_IFA_FLAGS, flags)
    )


def decode_address(body: bytes) -> LinkAddress:
    _family, length, old_flags, scope, index = _ADDRESS.unpack_from(body)
    found = nl.attributes(body, 8)
    local = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    far = found.get(_IFA_ADDRESS, local)
    flags = nl.as_u32(found[_IFA_FLAGS]) if _IFA_FLAGS in found else old_flags
    return LinkAddress(
        index=index,
        interface=Interface(Address.from_packed(local), length),
        scope=scope,
        permanent=bool(flags & _IFA_F_PERMANENT),
        tentative=bool(flags & _IFA_F_TENTATIVE),
        peer=Address.from_packed(far) if far != local else None,
    )


# Routes


def dump_routes(version: int, *, table: int = 0, protocol: int = 0, ifindex: int = 0) -> nl.Request:
    """Routes of one IP version; the kernel filters by what is not 0."""
    body = _ROUTE.pack(FAMILY[version], 0, 0, 0, 0, protocol, 0, 0, 0)
    if table:
        body += nl.u32(_RTA_TABLE, table)
    if ifindex:
        body += nl.u32(_RTA_OIF, ifindex)
    return nl.Request(GET_ROUTE, 0, body, f"list the IPv{version} routes")


def new_route(route: Route, *, replace: bool = True) -> nl.Request:
    """Set a route; with ``replace`` it takes the place of one with the same prefix *and metric*, whatever its kind.

    Without, one that exists is an error (EEXIST). ``ifindex`` counts, not ``interface``.
    """
    flags = nl.CREATE | (nl.REPLACE if replace else nl.EXCLUSIVE)
    return nl.Request(
        NEW_ROUTE, flags, _route_body(route, _SCOPE_NUMBERS[route.scope]), "add the route", str(route)
    )


def delete_route(route: Route) -> nl.Request:
    """Remove just this route: kind, protocol, metric and device must match. ESRCH when there is none.

    The kind ``other`` and a protocol, metric or ifindex of 0 match any.
    """
    return nl.Request(DEL_ROUTE, 0, _route_body(route, 255), "delete the route", str(route))


def _route_body(route: Route, scope: int) -> bytes:
    prefix = route.prefix
    body = _ROUTE.pack(
        FAMILY[prefix.version],
        prefix.length,
        0,
        0,
        route.table if route.table < 256 else 0,
        route.protocol,
        scope if prefix.version == 4 else 0,
        _KIND_NUMBERS.get(route.kind, 0),
        _RTNH_ONLINK if route.onlink else 0,
    )
    if prefix.length:
        body += nl.attr(_RTA_DST, prefix.address.packed)
    body += nl.u32(_RTA_TABLE, route.table)
    if route.metric:
        body += nl.u32(_RTA_PRIORITY, route.metric)
    if route.gateway is not None:
        if route.gateway.version == prefix.version:
            body += nl.attr(_RTA_GATEWAY, route.gateway.packed)
        else:
            body += nl.attr(_RTA_VIA, struct.pack("=H", FAMILY[route.gateway.version]) + route.gateway.packed)
    if route.prefsrc is not None:
        body += nl.attr(_RTA_PREFSRC, route.prefsrc.packed)
    if route.ifindex and route.kind == "unicast":
        body += nl.u32(_RTA_OIF, route.ifindex)
    return body


def decode_route(body: bytes, names: Mapping[int, str]) -> Route | None:
    """None for a cached exception, which is no route of the table. ``names`` gives interfaces' names by index."""
    family, length, _src, _tos, table, protocol, scope, kind, flags = _ROUTE.unpack_from(body)
    if flags & _CLONED or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    version: Literal[4, 6] = 4 if family == socket.AF_INET else 6
    found = nl.attributes(body, 12)
    value = int.from_bytes(found[_RTA_DST], "big") if _RTA_DST in found else 0
    named_kind = _KINDS.get(kind, "other")
    discards = named_kind in ("blackhole", "unreachable", "prohibit", "throw")
    ifindex = nl.as_u32(found[_RTA_OIF]) if _RTA_OIF in found and not discards else 0
    gateway: Address | None = None
    if _RTA_GATEWAY in found:
        gateway = Address.from_packed(found[_RTA_GATEWAY])
    elif _RTA_VIA in found:
        gateway = Address.from_packed(found[_RTA_VIA][2:])
    return Route(
        prefix=Prefix(version, value, min(length, BITS[version])),
        kind=named_kind,
        interface=names.get(ifindex, "") if ifindex else "",
        ifindex=ifindex,
        gateway=gateway,
        onlink=bool(flags & _RTNH_ONLINK),
        scope=_SCOPES.get(scope, "global"),
        metric=nl.as_u32(found[_RTA_PRIORITY]) if _RTA_PRIORITY in found else 0,
        protocol=protocol,
        prefsrc=Address.from_packed(found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else None,
        table=nl.as_u32(found[_RTA_TABLE]) if _RTA_TABLE in found else table,
        multipath=_RTA_MULTIPATH in found,
    )


# Neighbours


def dump_neighbours(version: int = 0, index: int = 0) -> nl.Request:
    body = _NEIGHBOUR.pack(FAMILY.get(version, 0), 0, 0, 0, 0)
    if index:
        body += nl.u32(8, index)
    return nl.Request(GET_NEIGHBOUR, 0, body, "list the neighbours")


def new_neighbour(neighbour: Neighbour) -> nl.Request:
    flags = (_NTF_PROXY if neighbour.proxy else 0) | (_NTF_LEARNED if neighbour.learned else 0)
    state = _NUD_PERMANENT if neighbour.permanent or neighbour.proxy else 0x02
    body = _NEIGHBOUR.pack(FAMILY[neighbour.address.version], neighbour.index, state, flags, 0)
    body += nl.attr(1, neighbour.address.packed)
    if neighbour.mac:
        body += nl.attr(2, _mac_bytes(neighbour.mac))
    return nl.Request(
        NEW_NEIGHBOUR, nl.CREATE | nl.REPLACE, body, "add the neighbour", str(neighbour.address)
    )


def delete_neighbour(neighbour: Neighbour) -> nl.Request:
    flags = _NTF_PROXY if neighbour.proxy else 0
    body = _NEIGHBOUR.pack(FAMILY[neighbour.address.version], neighbour.index, 0, flags, 0)
    body += nl.attr(1, neighbour.address.packed)
    return nl.Request(DEL_NEIGHBOUR, 0, body, "delete the neighbour", str(neighbour.address))


def decode_neighbour(body: bytes) -> Neighbour | None:
    family, index, state, flags, _type = _NEIGHBOUR.unpack_from(body)
    found = nl.attributes(body, 12)
    if family not in (socket.AF_INET, socket.AF_INET6) or 1 not in found:
        return None
    return Neighbour(
        index=index,
        address=Address.from_packed(found[1]),
        mac=found.get(2, b"").hex(":"),
        permanent=bool(state & _NUD_PERMANENT),
        proxy=bool(flags & _NTF_PROXY),
        learned=bool(flags & _NTF_LEARNED),
    )


_GET_TABLE = 66
_TABLE_NAME, _TABLE_THRESHOLD_3 = 1, 4


def dump_neighbour_tables(version: int) -> nl.Request:
    return nl.Request(
        _GET_TABLE, 0, struct.pack("=Bxxx", FAMILY[version]), "read the limits of neighbour tables"
    )


def decode_neighbour_limit(body: bytes) -> int | None:
    """The number of neighbours that a table never exceeds; None for the parameters of one interface."""
    found = nl.attributes(body, 4)
    return nl.as_u32(found[_TABLE_THRESHOLD_3]) if _TABLE_THRESHOLD_3 in found else None


_NETCONFA_IFINDEX, _NETCONFA_FORWARDING, _NETCONFA_RP_FILTER, _NETCONFA_PROXY_NEIGH = 1, 2, 3, 5
_ALL_INTERFACES, _INTERFACES_TO_COME = 0xFFFFFFFF, 0xFFFFFFFE
_NODE_SWITCHES = {
    (socket.AF_INET, _NETCONFA_FORWARDING): "net/ipv4/ip_forward",
    (socket.AF_INET, _NETCONFA_RP_FILTER): "net/ipv4/conf/all/rp_filter",
    (socket.AF_INET6, _NETCONFA_FORWARDING): "net/ipv6/conf/all/forwarding",
}
_LINK_SWITCHES = {
    (socket.AF_INET, _NETCONFA_FORWARDING): "ipv4/forwarding",
    (socket.AF_INET, _NETCONFA_RP_FILTER): "ipv4/rp_filter",
    (socket.AF_INET, _NETCONFA_PROXY_NEIGH): "ipv4/proxy_arp",
    (socket.AF_INET6, _NETCONFA_FORWARDING): "ipv6/forwarding",
    (socket.AF_INET6, _NETCONFA_PROXY_NEIGH): "ipv6/proxy_ndp",
}
"""All of ours that the kernel tells of."""


def decode_switches(body: bytes) -> tuple[int, dict[str, str]]:
    """Of ``NEW_NETCONF``: whose switches, and how they stand. An interface's index and names as `decode_link_with_switches` has
    them; or 0 for the whole node, and places under /proc/sys. Left out are those of interfaces to come, and what an interface
    begins with, which is told all at once."""
    found = nl.attributes(body, 4)
    index = nl.as_u32(found.get(_NETCONFA_IFINDEX, bytes(4)))
    whole = index == _ALL_INTERFACES
    if index == _INTERFACES_TO_COME or (not whole and len(found) > 2):
        return 0, {}
    return 0 if whole else index, {
        name: str(nl.as_u32(found[kind]))
        for (family, kind), name in (_NODE_SWITCHES if whole else _LINK_SWITCHES).items()
        if family == body[0] and kind in found
    }
