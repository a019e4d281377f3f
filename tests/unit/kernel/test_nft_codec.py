"""nf_tables in bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tortie.host.nft import (
    ACCEPT,
    FIELD_BYTES,
    Chain,
    ChainKey,
    ElementKey,
    FieldType,
    Hook,
    Rule,
    Set,
    SetKey,
    Table,
    TableKey,
    Verdict,
    interface_key,
)
from tortie.kernel import netlink as nl
from tortie.kernel import nft_codec as codec

FIELDS: st.SearchStrategy[FieldType] = st.sampled_from(sorted(FIELD_BYTES))
KEYS = st.lists(FIELDS, min_size=1, max_size=4).map(tuple)
SETS = st.builds(Set, KEYS, intervals=st.booleans(), verdicts=st.booleans()) | st.builds(
    Set, KEYS, intervals=st.booleans(), data_bytes=st.sampled_from([4, 12, 16])
)


@given(SETS)
def test_sets(spec: Set) -> None:
    body = codec.header("ip") + codec.set_body("tortie", "some-set", spec, 3)
    assert codec.decode_set(body) == ("tortie", "some-set", spec)


def test_sets_that_rules_fill() -> None:
    spec = Set(("ifname", "ipv6_addr"), lasts_seconds=120, size=1000)
    body = codec.header("ip6") + codec.set_body("tortie", "some-set", spec, 3)
    assert codec.decode_set(body) == ("tortie", "some-set", spec)


def test_sets_that_we_would_not_make() -> None:
    counters = nl.be32(3, 8) + nl.be32(4, 7) + nl.be32(6, 123)
    anonymous = nl.be32(3, 3) + nl.be32(4, 7)
    for flags in (counters, anonymous):
        body = codec.header("ip") + nl.text(1, "tortie") + nl.text(2, "x") + flags
        assert codec.decode_set(body) == ("tortie", "x", None)


def test_tables_tell_their_schema() -> None:
    table = Table("ip6", "tortie", schema=12)
    assert codec.decode_table(codec.header("ip6") + codec.table_body(table)) == table
    nameless = codec.header("ip") + nl.text(1, "tortie")
    assert codec.decode_table(nameless) == Table("ip", "tortie", schema=0)
    assert codec.decode_table(bytes([1, 0, 0, 0]) + nl.text(1, "inet")) is None


def test_chains() -> None:
    hook = Hook("nat", "postrouting", -300)
    body = codec.header("ip") + codec.chain_body("ip", "tortie", "c", hook)
    assert codec.decode_chain(body) == ("tortie", "c", hook)
    hook = Hook("filter", "input", 0)
    body = codec.header("arp") + codec.chain_body("arp", "tortie", "c", hook)
    assert codec.decode_chain(body) == ("tortie", "c", hook)
    body = codec.header("ip") + codec.chain_body("ip", "tortie", "c", None)
    assert codec.decode_chain(body) == ("tortie", "c", None)


@given(st.text(max_size=300))
def test_rules_carry_their_digest_behind_any_comment(comment: str) -> None:
    rule = Rule((ACCEPT,), comment)
    data = codec.user_data(rule)
    assert len(data) <= 256
    assert codec.digest_of(data) == rule.digest
    assert codec.decode_rule(codec.header("ip") + codec.rule_body("t", "c", rule)) == ("t", "c", rule.digest)


@given(st.binary(max_size=40))
def test_foreign_user_data_is_no_digest_or_eight_bytes_at_most(data: bytes) -> None:
    codec.digest_of(data)


def test_a_digest_tells_rules_apart() -> None:
    digests = {
        Rule(expressions, comment).digest
        for expressions in ((ACCEPT,), (Verdict("jump", "a"),), (Verdict("jump", "b"),))
        for comment in ("", "a")
    }
    assert len(digests) == 6
    assert Chain.of(Rule((ACCEPT,))) == Chain(None, (Rule((ACCEPT,)).digest,))
    assert Chain.of(Rule((Verdict("jump", "a"),))).references() == {"a"}


INTERVALS = st.lists(st.integers(0, 255), min_size=2, max_size=12, unique=True).map(sorted)


@given(INTERVALS, st.permutations(range(24)))
def test_intervals_come_back_in_whatever_order_the_kernel_tells_their_ends(
    bounds: list[int], order: list[int]
) -> None:
    spec = Set(("inet_proto",), intervals=True)
    wanted = {
        ElementKey("ip", "s", bytes([low]), bytes([high])): None
        for low, high in zip(bounds[::2], bounds[1::2], strict=False)
    }
    # Intervals that touch are one: the callers merge them before.
    wanted = {
        key: value
        for key, value in wanted.items()
        if not any(other.key[0] == key.last[0] + 1 or other.last[0] == key.key[0] - 1 for other in wanted)
    }
    encoded = b"".join(codec.element(spec, key, None) for key in wanted)
    body = codec.header("ip") + nl.text(1, "tortie") + nl.text(2, "s") + nl.nested(3, encoded)
    marks = list(codec.decode_elements(body))
    shuffled = [marks[place] for place in order if place < len(marks)]
    seen = {
        ElementKey("ip", "s", first, last): verdict for first, last, verdict in codec.pair_intervals(shuffled)
    }
    assert seen == wanted


def test_elements_of_maps_and_concatenations() -> None:
    vmap = Set(("ifname",), verdicts=True)
    key = ElementKey("ip", "m", interface_key("cali1"))
    ranges = Set(("ifname", "ipv4_addr"), intervals=True)
    pair = ElementKey("ip", "r", interface_key("cali1") + bytes(4), interface_key("cali1") + bytes(3) + b"\7")
    names = Set(("ifname",), data_bytes=16)
    for spec, element, verdict in (
        (vmap, key, Verdict("goto", "x")),
        (names, key, interface_key("group")),
        (ranges, pair, None),
    ):
        encoded = nl.nested(3, codec.element(spec, element, verdict))
        body = codec.header("ip") + nl.text(1, "t") + nl.text(2, element.set_name) + encoded
        assert list(codec.decode_elements(body)) == [(element.key, element.last, False, verdict)]


def test_elements_go_in_portions_that_a_16_bit_length_can_tell() -> None:
    spec = Set(("ipv6_addr",))
    elements = [
        codec.element(spec, ElementKey("ip6", "s", i.to_bytes(16, "big")), None) for i in range(10_000)
    ]
    bodies = list(codec.element_bodies("tortie", "s", elements))
    assert len(bodies) > 1
    assert all(len(body) < 1 << 16 for body in bodies)
    assert sum(len(nl.attributes(body)[3]) for body in bodies) == sum(map(len, elements))
    assert not list(codec.element_bodies("tortie", "s", []))


def test_a_chain_and_a_set_of_one_name_are_two_things() -> None:
    assert len({ChainKey("ip", "x"), SetKey("ip", "x"), TableKey("ip")}) == 3
