"""Connection tracking of one network namespace: list flows, remove those of an address.

Source: ``linux/netfilter/nfnetlink_conntrack.h``. A dump walks the machine's whole hash table, which takes the kernel
10 ms even when nothing is in it; so few flows are cheaper to read at once than four times filtered (``docs/benchmarks.md``).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Self

from tortie.errors import KernelError
from tortie.host.conntrack import Flow, FlowTuple
from tortie.kernel import netlink as nl
from tortie.kernel.netns import Namespace, open_netlink
from tortie.net.addresses import Address

_NEW, _GET, _DELETE, _STATISTICS = 0x100, 0x101, 0x102, 0x105
_ORIGINAL, _REPLY, _MARK, _ID, _ZONE, _FILTER = 1, 2, 8, 12, 18, 25
_IP, _PROTO = 1, 2
_FAMILY = {4: 2, 6: 10}
_VERSION = {family: version for version, family in _FAMILY.items()}
_BY_SOURCE, _BY_DESTINATION = 1, 2
_FEW_FLOWS = 6_000
_FEW_ADDRESSES = 2
"""Up to here, and where there are more flows than that, four dumps that the kernel filters are cheaper than a whole one."""


class ConntrackSocket:
    """Blocking; one thread at a time. Raises `KernelError`."""

    def __init__(self, namespace: Namespace | None = None) -> None:
        self.netlink = open_netlink(namespace, nl.NETFILTER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.netlink.close()

    def count(self) -> int:
        """How many flows the namespace has."""
        request = nl.Request(_STATISTICS, 0, struct.pack("=BBH", 0, 0, 0), "count the flows")
        answer = self.netlink.ask(request)
        return 0 if answer is None else int.from_bytes(nl.attributes(answer.body, 4)[1], "big")

    def flows(self, version: int, address: Address | None = None) -> list[Flow]:
        """Flows of one IP version; with an address those that bear it in any place."""
        bodies = self._dump(version, b"") if address is None else self._of_addresses(version, {address})
        return [_decode(body, version) for body in bodies]

    def flows_of(self, addresses: Collection[Address]) -> list[Flow]:
        """Every flow that bears one of these addresses in any place."""
        if not addresses or not self.count():
            return []
        return [
            _decode(body, version)
            for version in sorted({address.version for address in addresses})
            for body in self._of_addresses(version, {each for each in addresses if each.version == version})
        ]

    def flush(self, addresses: Collection[Address]) -> int:
        """Forget every flow that bears one of these addresses, in either direction, before or after translation.

        Returns how many there were.
        """
        if not addresses or not self.count():
            return 0
        bodies = [
            body
            for version in sorted({address.version for address in addresses})
            for body in self._of_addresses(version, {each for each in addresses if each.version == version})
        ]
        return self._delete(bodies)

    def delete(self, flows: Iterable[Flow]) -> int:
        """Forget these flows; returns how many were still there."""
        return self._send_deletes([(flow.original.source.version, flow.handle) for flow in flows])

    def _of_addresses(self, version: int, addresses: Collection[Address]) -> list[bytes]:
        """Every flow that bears one of these, once."""
        packed = frozenset(address.packed for address in addresses)
        if version == 4 and len(packed) <= _FEW_ADDRESSES and self.count() > _FEW_FLOWS:
            found: Iterable[bytes] = {
                _handle(body): body for one in packed for body in self._filtered(one)
            }.values()
        else:
            found = self._dump(version, b"")
        return [body for body in found if not packed.isdisjoint(_packed_addresses(body, version))]

    def _filtered(self, packed: bytes) -> Iterator[bytes]:
        """IPv4 only: the kernel's comparison of IPv6 addresses is the wrong way round (seen in 6.18)."""
        for place, flags_kind in ((_ORIGINAL, 1), (_REPLY, 2)):
            for flag in (_BY_SOURCE, _BY_DESTINATION):
                body = nl.nested(place, nl.nested(_IP, nl.attr(1 if flag == _BY_SOURCE else 2, packed)))
                body += nl.nested(_FILTER, nl.u32(flags_kind, flag), nl.u32(3 - flags_kind, 0))
                yield from self._dump(4, body)

    def _dump(self, version: int, body: bytes) -> Iterator[bytes]:
        head = struct.pack("=BBH", _FAMILY[version], 0, 0)
        for message in self.netlink.dump(nl.Request(_GET, 0, head + body, f"list the IPv{version} flows")):
            yield message.body

    def _delete(self, bodies: Sequence[bytes]) -> int:
        return self._send_deletes([(_VERSION[body[0]], _handle(body)) for body in bodies])

    def _send_deletes(self, handles: Sequence[tuple[int, bytes]]) -> int:
        requests = [
            nl.Request(_DELETE, 0, struct.pack("=BBH", _FAMILY[version], 0, 0) + handle, "delete a flow")
            for version, handle in handles
        ]
        failed = self.netlink.batch(requests)
        for error in failed.values():
            if error.errno != errno.ENOENT:
                raise error
        return len(requests) - len(failed)


def _handle(body: bytes) -> bytes:
    """What names a flow in a request: its original direction, its id and its zone."""
    found = nl.attributes(body, 4)
    handle = nl.attr(_ORIGINAL | nl.NESTED, found[_ORIGINAL]) + nl.attr(_ID, found[_ID])
    if _ZONE in found:
        handle += nl.attr(_ZONE, found[_ZONE])
    return handle


def _packed_addresses(body: bytes, version: int) -> tuple[bytes, bytes, bytes, bytes]:
    """The four addresses by their place, which is fixed: a whole parse would cost ten times as much.

    The message begins with the original direction and the reply, and each of these with source and destination.
    """
    size = 4 if version == 4 else 16
    length = int.from_bytes(body[4:6], "little") if nl.LITTLE_ENDIAN else int.from_bytes(body[4:6], "big")
    first = 16
    second = first + ((length + 3) & ~3)
    gap = size + 4
    return (
        body[first : first + size],
        body[first + gap : first + gap + size],
        body[second : second + size],
        body[second + gap : second + gap + size],
    )


def _decode(body: bytes, version: int) -> Flow:
    found = nl.attributes(body, 4)
    try:
        return Flow(
            _decode_tuple(found[_ORIGINAL], version),
            _decode_tuple(found[_REPLY], version),
            int.from_bytes(found.get(_MARK, b"\0"), "big"),
            _handle(body),
        )
    except KeyError as error:
        raise KernelError(errno.EPROTO, "read a flow", detail=f"attribute {error} is missing") from None


def _decode_tuple(payload: bytes, version: int) -> FlowTuple:
    found = nl.attributes(payload)
    addresses = nl.attributes(found[_IP])
    proto = nl.attributes(found[_PROTO])
    first = 1 if version == 4 else 3
    return FlowTuple(
        Address.from_packed(addresses[first]),
        Address.from_packed(addresses[first + 1]),
        proto[1][0],
        int.from_bytes(proto.get(2, b"\0"), "big"),
        int.from_bytes(proto.get(3, b"\0"), "big"),
    )
