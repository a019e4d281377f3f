"""Bytes of netlink: what is written is read back as it was."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.host.links import Neighbour, SegmentSizes
from tortie.host.routes import Route, RouteKey, RouteKind
from tortie.kernel import netlink as nl
from tortie.kernel import rtnetlink_codec as codec
from tortie.net.addresses import BITS, Address, Interface, Prefix

ATTRIBUTES = st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=8)


@given(ATTRIBUTES)
def test_attributes(wanted: list[tuple[int, bytes]]) -> None:
    encoded = b"".join(nl.attr(kind, payload) for kind, payload in wanted)
    assert len(encoded) % 4 == 0
    assert list(nl.attribute_list(encoded)) == wanted
    assert nl.attributes(encoded) == dict(wanted)
    (kind, inside), *rest = nl.attribute_list(nl.nested(7, encoded))
    assert (kind, inside, rest) == (7, encoded, [])


@given(st.binary(max_size=60))
def test_garbage_is_read_without_an_error(garbage: bytes) -> None:
    list(nl.attribute_list(garbage))
    list(nl.messages(garbage))


@given(st.lists(st.tuples(st.integers(16, 100), st.binary(max_size=30)), max_size=5))
def test_messages_of_a_datagram(wanted: list[tuple[int, bytes]]) -> None:
    requests = [nl.Request(kind, nl.CREATE, body, "do") for kind, body in wanted]
    datagram = b"".join(nl.encode(request, 5 + place, nl.ACK) for place, request in enumerate(requests))
    seen = list(nl.messages(datagram))
    assert [(message.kind, message.body) for message in seen] == wanted
    assert [message.sequence for message in seen] == [5 + place for place in range(len(wanted))]
    assert all(message.flags == nl.REQUEST | nl.ACK | nl.CREATE for message in seen)


def test_numbers_have_their_byte_order() -> None:
    assert nl.attributes(nl.be32(1, -3))[1] == b"\xff\xff\xff\xfd"
    assert nl.attributes(nl.be16(1, 179))[1] == b"\x00\xb3"
    assert nl.as_u32(nl.attributes(nl.u32(1, 7))[1]) == 7
    assert nl.as_text(nl.attributes(nl.text(1, "eth0"))[1]) == "eth0"


def _error(number: int, *, words: str = "", capped: bool = True) -> nl.Message:
    flags = (0x100 if capped else 0) | (0x200 if words else 0)
    echoed = struct.pack("=IHHII", 24 if not capped else 20, 16, 0, 1, 0) + (b"" if capped else b"12345678")
    return nl.Message(
        2, flags, 1, struct.pack("=i", -number) + echoed + (nl.text(1, words) if words else b"")
    )


@pytest.mark.parametrize("capped", [True, False])
def test_refusals(capped: bool) -> None:
    assert nl.refusal(_error(0)) == nl.Refusal(0, "")
    assert nl.refusal(_error(17, words="File exists already", capped=capped)) == nl.Refusal(
        17, "File exists already"
    )
    assert nl.refusal(nl.Message(3, 2, 1, b"")) == nl.Refusal(0, "")
    assert nl.refusal(nl.Message(16, 0, 1, b"")) is None


def _prefix(version: int, value: int, length: int) -> Prefix:
    bits = BITS[version]
    return Prefix(4 if version == 4 else 6, value % (1 << bits), bits).supernet(min(length, bits))


PREFIXES = st.builds(_prefix, st.sampled_from([4, 6]), st.integers(0), st.integers(0, 128))


KINDS: st.SearchStrategy[RouteKind] = st.sampled_from(
    ["unicast", "blackhole", "unreachable", "prohibit", "throw"]
)


@given(
    PREFIXES,
    KINDS,
    st.integers(0, 2**32 - 1),
    st.integers(1, 255),
    st.booleans(),
    st.booleans(),
    st.sampled_from([254, 100, 70000]),
)
def test_routes(
    prefix: Prefix, kind: RouteKind, metric: int, protocol: int, via: bool, onlink: bool, table: int
) -> None:
    gateway = Address(prefix.version, 77) if via else None
    route = Route(
        prefix=prefix,
        kind=kind,
        interface="eth0" if kind == "unicast" else "",
        ifindex=3 if kind == "unicast" else 0,
        gateway=gateway,
        onlink=onlink,
        metric=metric,
        protocol=protocol,
        prefsrc=gateway,
        table=table,
    )
    assert codec.decode_route(codec.new_route(route).body, {3: "eth0"}) == route


def test_a_gateway_of_the_other_version() -> None:
    route = Route(
        prefix=Prefix.parse("10.0.0.0/24"), gateway=Address.parse("fe80::1"), ifindex=3, interface="eth0"
    )
    assert codec.decode_route(codec.new_route(route).body, {3: "eth0"}) == route


def test_a_routes_key_holds_the_metric_that_the_kernel_gives_it() -> None:
    six, four = Prefix.parse("fd00::/64"), Prefix.parse("10.0.0.0/8")
    assert Route(prefix=six).key == RouteKey(six, 1024)
    assert Route(prefix=six, metric=7).key == RouteKey(six, 7)
    assert Route(prefix=four).key == RouteKey(four, 0)
    assert str(Route(prefix=four, kind="blackhole", protocol=80)) == "blackhole 10.0.0.0/8 proto 80 metric 0"


@given(PREFIXES, st.integers(0, 255))
def test_addresses(prefix: Prefix, scope: int) -> None:
    interface = Interface(prefix.address, prefix.length)
    decoded = codec.decode_address(codec.new_address(9, interface, scope=scope).body)
    assert (decoded.index, decoded.interface, decoded.scope) == (9, interface, scope)


def test_neighbours() -> None:
    neighbour = Neighbour(index=3, address=Address.parse("10.0.0.1"), mac="02:00:00:00:00:01", permanent=True)
    assert codec.decode_neighbour(codec.new_neighbour(neighbour).body) == neighbour


def test_the_far_end_of_a_veth_pair_cannot_be_made_up() -> None:
    with pytest.raises(ValueError, match="far end eth0"):
        codec.new_veth(codec.VethEnd(name="cali1", up=True), codec.VethEnd(name="eth0", up=True))


@pytest.mark.parametrize(
    ("sizes", "attributes"),
    [
        (SegmentSizes(), {}),
        (SegmentSizes(196608, 65536), {41: 65536, 63: 196608}),
        (SegmentSizes(196608, 0), {63: 196608}),
        (SegmentSizes(0, 32768), {41: 32768}),
    ],
)
def test_segment_sizes(sizes: SegmentSizes, attributes: dict[int, int]) -> None:
    body = codec.set_link(3, subject="eth0", segments=sizes).body
    assert {kind: nl.as_u32(value) for kind, value in nl.attribute_list(body, 16)} == attributes
    near, far = codec.VethEnd(name="cali1", segments=sizes), codec.VethEnd(name="eth0", segments=sizes)
    body = codec.new_veth(near, far).body
    for kind, value in attributes.items():
        assert body.count(nl.u32(kind, value)) == 2, "each end has it"


def test_segment_sizes_of_a_kernel_that_has_one_for_both() -> None:
    """Before 6.3: IPv4 never had more than the common size there."""
    for told, ipv4 in ((32768, 32768), (65536, 65536), (196608, 65536)):
        body = codec.set_link(3, subject="eth0").body + nl.u32(41, told)
        assert codec.decode_link(body).segments == SegmentSizes(ipv4, told)
    both = nl.u32(41, 65536) + nl.u32(63, 196608)
    assert codec.decode_link(codec.set_link(3, subject="eth0").body + both).segments == SegmentSizes(
        196608, 65536
    )
