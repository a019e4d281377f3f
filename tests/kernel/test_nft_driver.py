"""The nftables driver: one batch, read back as it was written, and as much as can be done when the kernel refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.dataplane_world import POOL_V4, POOL_V6, World, applied, default_ipsets, started
from tests.kernel.policy_world import ipset, port_set
from tortie.dataplane.linux.drivers.nft import NftDriver
from tortie.dataplane.linux.drivers.thread import KernelThread
from tortie.dataplane.linux.rules import names
from tortie.dataplane.linux.rules.chains import frame
from tortie.dataplane.linux.rules.elements import group_key
from tortie.desired.host_endpoints import HostEndpointRow
from tortie.desired.policies import (
    AppliedPolicies,
    EntityMatch,
    ICMPMatch,
    PolicyKey,
    PolicyRow,
    PortRange,
    RuleRow,
    TierRow,
)
from tortie.desired.settings import SettingsRow
from tortie.desired.table import Delta
from tortie.host.nft import (
    ACCEPT,
    DROP,
    Chain,
    ChainKey,
    Compare,
    Counter,
    ElementKey,
    Fib,
    Hook,
    InRange,
    Limit,
    Load,
    Log,
    Mask,
    Masquerade,
    Meta,
    NftKey,
    NftValue,
    NoTrack,
    Payload,
    Reject,
    Rule,
    Set,
    SetKey,
    SetMeta,
    Table,
    TableKey,
    Verdict,
    VerdictLookup,
    interface_key,
)
from tortie.kernel.nft import Batch, NftSocket, Refused
from tortie.net.addresses import Prefix

pytestmark = pytest.mark.needs("nftables")
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def socket(netns: Callable[[], str]) -> Iterator[NftSocket]:
    with NftSocket(netns()) as made:
        yield made


@pytest.fixture
def driver(socket: NftSocket) -> Iterator[NftDriver]:
    thread = KernelThread()
    yield NftDriver(socket, thread)
    thread.close()


async def put(driver: NftDriver, wanted: dict[NftKey, NftValue]) -> dict[NftKey, str]:
    outcome = await driver.apply(wanted, frozenset())
    return {key: str(error) for key, error in outcome.failed.items()}


async def test_what_was_written_is_read_back(driver: NftDriver) -> None:
    wanted = frame(SettingsRow(nat_port_range=(1000, 2000), nat_outgoing_address="192.0.2.7"))
    for number in range(50):
        name = interface_key(f"cali{number}")
        wanted[ElementKey("ip", names.FROM_GROUPS, name)] = Verdict("goto", names.TO_WORKLOAD)
        wanted[ElementKey("ip6", names.ADDRESSES, name + bytes(15) + bytes([number]))] = None
        low, high = bytes([10, number, 0, 0]), bytes([10, number, 0, 99])
        wanted[ElementKey("ip", names.PREFIXES, name + low, name + high)] = None
        wanted[ElementKey("ip", "all-hosts", low, high)] = None
    last = b"\xff" * 16
    wanted[ElementKey("ip6", "all-hosts", b"\xff" + bytes(15), last)] = None
    assert not await put(driver, wanted)
    assert dict(await driver.read()) == wanted
    assert not await driver.disturbed()
    gone = frozenset(key for key in wanted if isinstance(key, ElementKey))
    assert not (await driver.apply({}, gone)).failed
    assert dict(await driver.read()) == {key: value for key, value in wanted.items() if key not in gone}
    assert not (await driver.apply({}, gone)).failed, "deleting what is gone is success"


async def test_nft_shows_what_we_meant(netns: Callable[[], str]) -> None:
    """Compared with a file: whoever changes a rule sees here what the kernel makes of it."""
    world = World(netns)
    plane = await started(world)
    pods = [world.pod(number) for number in (1, 2)]
    more = {pods[0].key: pods[0].row(allowed_sources=(Prefix.parse("203.0.113.0/24"),))}
    settings = SettingsRow(
        endpoint_to_host_action="Drop",
        nat_outgoing_exclusions="IPPoolsAndHostIPs",
        nat_port_range=(32768, 60999),
        source_spoofing="Any",
    )
    ipsets = {
        **default_ipsets(),
        "overlapping": frozenset((POOL_V4, POOL_V6, *POOL_V4.subnets(18))),
    }
    await applied(plane, world.flush(*pods, endpoints=more, settings=settings, ipsets=ipsets))
    shown = re.sub(r"packets \d+ bytes \d+", "packets 0 bytes 0", world.ruleset())
    await plane.close()
    world.close()
    assert shown == (GOLDEN / "ruleset.nft").read_text()


async def test_every_expression_is_taken_and_shown_by_nft(netns: Callable[[], str]) -> None:
    world = World(netns)
    port = Payload("transport", 2, 2)
    rules = (
        (
            Rule((Meta("l4proto"), Compare("eq", b"\6"), port, InRange(b"\0\x50", b"\0\x5a"), ACCEPT)),
            "tcp dport 80-90 accept",
        ),
        (
            Rule((Meta("l4proto"), Compare("eq", b"\x11"), port, Compare("neq", b"\0\x35"), DROP)),
            "udp dport != 53 drop",
        ),
        (
            Rule((Limit(10, 1), Log("x ", 5), Counter())),
            'limit rate 10/second log prefix "x " group 5 counter',
        ),
        (Rule((Fib("oif", ("saddr", "iif")), Compare("eq", bytes(4)), DROP)), "fib saddr . iif oif 0 drop"),
        (Rule((Reject("icmp", 13),)), "reject with icmp admin-prohibited"),
        (Rule((Meta("l4proto"), Compare("eq", b"\6"), Reject("tcp-reset"))), "reject with tcp reset"),
        (
            Rule((Meta("mark"), Mask(b"\xff\xff\xff\xff", b"\0\0\1\0"), SetMeta("mark"))),
            "meta mark set meta mark ^ 0x00010000",
        ),
        (Rule((Load(b"\1\0\0\0"), SetMeta("mark"))), "meta mark set 0x00000001"),
        (Rule((NoTrack(),)), "notrack"),
    )
    with NftSocket(world.node) as socket:
        batch = Batch("tortie")
        batch.put_table(Table("ip", "tortie"))
        batch.put_chain(ChainKey("ip", "c"), None)
        for rule, _ in rules:
            batch.add_rule(ChainKey("ip", "c"), rule)
        refused = socket.commit(batch)
        assert refused is None
    shown = [line.strip() for line in world.ruleset().splitlines()]
    for _, text in rules:
        assert any(line.startswith(text) for line in shown), f"{text} is not in {shown}"
    world.close()


def chains(count: int) -> dict[NftKey, NftValue]:
    return {ChainKey("ip", f"good{i}"): Chain.of(Rule((Counter(), ACCEPT))) for i in range(count)}


async def test_a_chain_that_drops_stands_for_a_culprit_that_the_kernel_names(driver: NftDriver) -> None:
    assert not await put(driver, frame(SettingsRow()))
    bad = ChainKey("ip", "bad")
    wanted: dict[NftKey, NftValue] = {
        **chains(10),
        bad: Chain.of(Rule((Meta("iifname"), VerdictLookup("no-such-map")))),
    }
    failed = await put(driver, wanted)
    assert failed == {bad: "cannot add a rule to the chain ip bad: No such file or directory"}
    there = await driver.read()
    assert chains(10).keys() <= there.keys()
    closed = there[bad]
    assert isinstance(closed, Chain)
    assert len(closed.digests) == 1
    empty = ChainKey("ip", "empty")
    staged = Chain.of(Rule((Meta("iifname"), VerdictLookup("no-such-map"))), closes=False)
    assert set(await put(driver, {empty: staged})) == {empty}
    assert (await driver.read())[empty] == Chain.of()


def chains_that_cannot_be() -> dict[NftKey, NftValue]:
    """Masquerade is refused where a filter chain leads to it, which the kernel finds out when it commits."""
    return {
        ChainKey("ip", "a/bad"): Chain.of(Rule((Masquerade(),))),
        ChainKey("ip", "it/leads"): Chain.of(Rule((Verdict("jump", "a/bad"),))),
        ChainKey("ip", "hooked"): Chain.of(
            Rule((Verdict("jump", "it/leads"),)), hook=Hook("filter", "forward", 0)
        ),
    }


async def test_a_culprit_that_it_does_not_name_is_found_by_halves(driver: NftDriver) -> None:
    assert not await put(driver, frame(SettingsRow()))
    culprits = chains_that_cannot_be()
    failed = await put(driver, {**chains(20), **culprits})
    assert len(failed) == 1
    assert failed.keys() <= culprits.keys()
    there = await driver.read()
    assert chains(20).keys() <= there.keys()
    assert culprits.keys() - there.keys() <= failed.keys()


GUARDS = {ChainKey("ip", names.FORWARD_FROM), ChainKey("ip6", names.INPUT_FROM)}


@pytest.fixture
async def guarded(driver: NftDriver, socket: NftSocket, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A table of another schema stands there, and the kernel names no culprit, as older ones do. Tells after each batch whether
    the node is guarded."""
    tables: dict[NftKey, NftValue] = {
        TableKey(family): Table(family, names.TABLE, names.SCHEMA - 1) for family in ("ip", "ip6", "arp")
    }
    assert not await put(driver, {**frame(SettingsRow()), **tables})
    await driver.read()
    after: list[bool] = []
    commit = socket.commit

    def commit_as_older_kernels(batch: Batch) -> Refused | None:
        refused = commit(batch)
        after.append(socket.read().keys() >= GUARDS)
        return None if refused is None else Refused({-1: next(iter(refused.errors.values()))})

    monkeypatch.setattr(socket, "commit", commit_as_older_kernels)
    return after


async def test_nor_is_there_a_moment_without_rules_when_a_table_of_another_schema_is_replaced(
    driver: NftDriver, guarded: list[bool]
) -> None:
    culprits = chains_that_cannot_be()
    wanted = {**frame(SettingsRow()), **chains(20), **culprits}
    failed = await put(driver, wanted)
    assert len(failed) == 1
    assert failed.keys() <= culprits.keys()
    assert len(guarded) > 3, "it was sought by halves"
    assert all(guarded)
    there = await driver.read()
    assert {key for key in wanted if there.get(key) != wanted[key]} == failed.keys()


async def test_the_old_table_stands_while_the_frame_of_the_new_is_refused(
    driver: NftDriver, guarded: list[bool]
) -> None:
    wanted = frame(SettingsRow())
    wanted[ChainKey("ip", names.FORWARD_FROM)] = Chain.of(
        Rule((Verdict("jump", names.TO_WORKLOAD),)), hook=Hook("filter", "forward", 0)
    )
    wanted[ChainKey("ip", names.TO_WORKLOAD)] = Chain.of(Rule((Masquerade(),)))
    assert (await put(driver, wanted)).keys() == wanted.keys()
    assert all(guarded)
    assert not await put(driver, frame(SettingsRow())), "the next try"
    assert (await driver.read())[TableKey("ip")] == Table("ip", names.TABLE, names.SCHEMA)


async def test_one_bad_element_among_many(driver: NftDriver) -> None:
    assert not await put(driver, frame(SettingsRow()))
    good: dict[NftKey, NftValue] = {
        ElementKey("ip", names.TO_GROUPS, interface_key(f"cali{i}")): Verdict("return") for i in range(300)
    }
    bad = ElementKey("ip", names.TO_GROUPS, interface_key("calibad"))
    failed = await put(driver, {**good, bad: Verdict("goto", "nowhere")})
    assert set(failed) == {bad}
    there = await driver.read()
    assert good.keys() <= there.keys()


async def test_an_element_changes_its_verdict(driver: NftDriver, socket: NftSocket) -> None:
    assert not await put(driver, {**frame(SettingsRow()), **chains(1)})
    element = ElementKey("ip", names.TO_GROUPS, interface_key("cali1"))
    for verdict in (Verdict("return"), DROP, Verdict("goto", "good0"), Verdict("return")):
        assert not await put(driver, {element: verdict})
        assert (await driver.read())[element] == verdict
    # Someone else changed it, and we do not know.
    spec = Set(("ifname",), verdicts=True)
    batch = Batch("tortie")
    batch.delete_elements(SetKey("ip", names.TO_GROUPS), spec, {element: None})
    batch.put_elements(SetKey("ip", names.TO_GROUPS), spec, {element: ACCEPT})
    assert socket.commit(batch) is None
    assert await driver.disturbed()
    assert not await put(driver, {element: DROP})
    assert (await driver.read())[element] == DROP


async def test_chains_that_refer_to_each_other_go_together(driver: NftDriver) -> None:
    one, two = ChainKey("ip", "one"), ChainKey("ip", "two")
    element = ElementKey("ip", names.TO_GROUPS, interface_key("cali1"))
    wanted: dict[NftKey, NftValue] = {
        one: Chain.of(Rule((Verdict("jump", "two"),))),
        two: Chain.of(Rule((ACCEPT,))),
        element: Verdict("goto", "one"),
    }
    assert not await put(driver, {**frame(SettingsRow()), **wanted})
    assert not (await driver.apply({}, frozenset(wanted))).failed
    assert not wanted.keys() & (await driver.read()).keys()


async def test_a_hundred_thousand_elements(driver: NftDriver, socket: NftSocket) -> None:
    addresses: dict[NftKey, NftValue] = {
        ElementKey("ip", "many", (0x0A000000 + number).to_bytes(4, "big")): None for number in range(100_000)
    }
    spec: dict[NftKey, NftValue] = {SetKey("ip", "many"): Set(("ipv4_addr",))}
    assert not await put(driver, {**frame(SettingsRow()), **spec, **addresses})
    batches = socket.batches
    assert batches == 1, "one batch, however large"
    assert not (await driver.apply({}, frozenset(list(addresses)[:1]))).failed
    left = [key for key in await driver.read() if isinstance(key, ElementKey) and key.set_name == "many"]
    assert len(left) == 99_999


async def test_a_map_leads_from_interface_to_group_and_is_read_as_it_was_put(driver: NftDriver) -> None:
    element = ElementKey("ip", names.TO_MAP, interface_key("cali1"))
    assert not await put(driver, {**frame(SettingsRow()), **chains(1)})
    for group in ("one", "another", "other"):
        assert not await put(driver, {element: group_key(group)})
        assert (await driver.read())[element] == group_key(group)
    assert not (await driver.apply({}, frozenset([element]))).failed
    assert element not in await driver.read()


async def test_nft_shows_policies_as_they_are_named(netns: Callable[[], str]) -> None:
    """The golden file of policy: every sort of rule, group, tier and set as an operator sees them."""
    world = World(netns)
    plane = await started(world)
    pod = world.pod(1)
    web, staged = (
        PolicyKey("NetworkPolicy", "shop", "web"),
        PolicyKey("StagedGlobalNetworkPolicy", "", "next"),
    )
    client = EntityMatch(sets=("s:client",), not_sets=("s:bad",), not_nets=(Prefix.parse("10.9.0.0/16"),))
    port = EntityMatch(ports=(PortRange(80, 80), PortRange(8000, 8999)), named_ports=("n:http",))
    policies = {
        web: PolicyRow(
            tier="platform",
            ingress=(
                RuleRow(action="Allow", protocol=6, source=client, destination=port),
                RuleRow(action="Log", protocol=1, icmp=ICMPMatch(8, 0), index=1),
                RuleRow(action="Pass", ip_version=4, not_protocol=17, index=2),
                RuleRow(action="Deny", source=EntityMatch(nets=(POOL_V4, POOL_V6)), index=3),
            ),
        ),
        staged: PolicyRow(tier="default", staged=True, ingress=(RuleRow(action="Deny"),)),
    }
    tiers = (
        TierRow(name="platform", default_action="Pass", policies=(web,)),
        TierRow(name="default", default_action="Deny", policies=(staged,)),
    )
    sets = [
        *ipset("s:client", pod.v4, pod.v6),
        *ipset("s:bad", "10.8.0.0/16", "10.8.3.0/24"),
        *port_set("n:http", (pod.v4, 6, 8080)),
    ]
    merged = [Delta(sets[0].table, {**sets[0].put, **sets[2].put, **sets[4].put})]
    merged.append(Delta(sets[1].table, {**sets[1].put, **sets[3].put, **sets[5].put}))
    ingress = {pod.key: pod.row(ingress=AppliedPolicies(tiers=tiers, profiles=("kns.default",)))}
    hosts = {
        "eth0": HostEndpointRow(interface="eth0", untracked_ingress=AppliedPolicies(tiers=tiers[:1])),
        "rest": HostEndpointRow(interface="*"),
    }
    flush = world.flush(pod, endpoints=ingress, policies=policies, sets=merged, hosts=hosts)
    await applied(plane, flush)
    shown = re.sub(
        r"packets \d+ bytes \d+", "packets 0 bytes 0", world.run("nft", "list", "table", "ip", "tortie")
    )
    await plane.close()
    world.close()
    assert shown == (GOLDEN / "policy.nft").read_text()


async def test_others_tables_are_none_of_our_business(driver: NftDriver, socket: NftSocket) -> None:
    """Where others change their tables all the time, ours are read anew only when somebody touched these."""
    assert not await put(driver, frame(SettingsRow()))
    await driver.read()

    def by_others(table: str, chain: str, *, rules: int = 1) -> None:
        with NftSocket(socket.namespace, table=table) as other:
            batch = Batch(table)
            batch.put_table(Table("ip", table))
            batch.put_chain(ChainKey("ip", chain), None)
            for _ in range(rules):
                batch.add_rule(ChainKey("ip", chain), Rule((Counter(), ACCEPT)))
            assert other.commit(batch) is None

    for number in range(3):
        by_others("services", f"c{number}")
    assert not await driver.disturbed()
    by_others("services", "more", rules=20_000)
    assert not await put(driver, chains(3)), "our own changes in between"
    by_others("services", "last")
    assert not await driver.disturbed()
    assert not await put(driver, chains(3000)), "however large"
    assert not await driver.disturbed()
    by_others("tortie", "mine")
    by_others("services", "again")
    assert await driver.disturbed()
    assert await driver.disturbed(), "until it is read"
    assert ChainKey("ip", "mine") in await driver.read()
    assert not await driver.disturbed()
