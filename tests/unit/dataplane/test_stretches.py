"""Long tiers in stretches: nothing is lost, and a change stays where it is."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from tortie.dataplane.linux.rules.groups import (
    WORKLOAD,
    of_stretch,
    of_tier,
    stretch_name,
    stretches,
    tier_name,
)
from tortie.dataplane.linux.rules.policies import Outline, Part
from tortie.desired.policies import PolicyKey, TierRow
from tortie.desired.settings import SettingsRow
from tortie.host.nft import Chain, ChainKey, NftKey, NftValue

OUTLINE = Outline(passes=False, reach=None)
KIND = WORKLOAD["ingress"]
POLICIES = st.lists(st.integers(0, 999), unique=True, min_size=1, max_size=120)


def policy(number: int) -> PolicyKey:
    """Each fifth is one of the cluster."""
    kind, namespace = ("NetworkPolicy", "shop") if number % 5 else ("GlobalNetworkPolicy", "")
    return PolicyKey(kind, namespace, f"p{number}")


def tier(numbers: list[int]) -> TierRow:
    keys = tuple(map(policy, numbers))
    return TierRow(name="default", default_action="Deny", policies=keys)


def chains(numbers: list[int], leader: str = "leader") -> dict[NftKey, NftValue]:
    """The tier with all of its stretches, of one who leads them."""
    row = tier(numbers)
    walked = [(stretch, stretch_name(stretch, leader)) for stretch in stretches(KIND, row)]
    found = of_tier(
        KIND, row, tier_name(KIND, row, leader), [(name, False) for _, name in walked], SettingsRow()
    )
    for stretch, name in walked:
        if stretch.is_chain:
            found |= of_stretch(stretch, name, [(OUTLINE, None)] * len(stretch.policies), SettingsRow())
    return found


@given(POLICIES)
def test_stretches_hold_every_policy_in_its_place(numbers: list[int]) -> None:
    found = stretches(KIND, tier(numbers))
    assert tuple(chain.from_iterable(stretch.policies for stretch in found)) == tier(numbers).policies
    assert all(stretch.policies for stretch in found)
    if len(numbers) <= 16:
        assert len(found) == len(numbers)


@given(POLICIES.filter(lambda numbers: len(numbers) > 17), st.data())
def test_one_policy_more_is_at_most_two_other_stretches(numbers: list[int], data: st.DataObject) -> None:
    numbers = [5 * number + 1 for number in numbers]
    place = data.draw(st.integers(0, len(numbers)))
    before = set(stretches(KIND, tier(numbers)))
    after = set(stretches(KIND, tier([*numbers[:place], 5001, *numbers[place:]])))
    assert len(after - before) <= 2
    assert len(before - after) <= 1


@given(POLICIES.filter(lambda numbers: len(numbers) > 17), st.data())
def test_between_those_of_namespaces_and_of_the_cluster_it_is_at_most_three(
    numbers: list[int], data: st.DataObject
) -> None:
    place, new = data.draw(st.integers(0, len(numbers))), data.draw(st.sampled_from([1000, 1001]))
    before = {stretch.policies for stretch in stretches(KIND, tier(numbers))}
    after = {stretch.policies for stretch in stretches(KIND, tier([*numbers[:place], new, *numbers[place:]]))}
    assert len(after - before) <= 3
    assert len(before - after) <= 1


@given(POLICIES)
def test_no_two_chains_of_a_tier_have_one_name(numbers: list[int]) -> None:
    found = stretches(KIND, tier(numbers))
    assert len({stretch_name(stretch, "leader") for stretch in found}) == len(found)


@given(POLICIES.filter(lambda numbers: len(numbers) > 17), st.data())
def test_one_policy_more_changes_what_stands_in_place(numbers: list[int], data: st.DataObject) -> None:
    numbers = [5 * number + 1 for number in numbers]
    place = data.draw(st.integers(0, len(numbers)))
    before, after = chains(numbers), chains([*numbers[:place], 5001, *numbers[place:]])
    assert not before.keys() - after.keys()
    changed = [key for key in before if before[key] != after[key]]
    new = after.keys() - before.keys()
    assert len(changed) <= 4, "one stretch a family, and the tier where there is one more"
    assert len(new) <= 2


@given(POLICIES.filter(lambda numbers: len(numbers) > 17))
def test_one_for_the_whole_cluster_leaves_those_of_namespaces_alone(numbers: list[int]) -> None:
    numbers = [5 * number + 1 for number in numbers]
    before = chains([*numbers, 0])
    for after in (chains([1000, *numbers, 0]), chains([*numbers, 1000, 0]), chains([*numbers, 0, 1000])):
        touched = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
        assert all("/tier/" in key.name or "/GlobalNetworkPolicy/" in key.name or is_of_cluster(after[key])
                   for key in touched if isinstance(key, ChainKey))  # fmt: skip


def is_of_cluster(chain: NftValue) -> bool:
    assert isinstance(chain, Chain)
    return not any("/NetworkPolicy/" in name for name in chain.references())


@given(POLICIES)
def test_every_policy_is_jumped_to_once(numbers: list[int]) -> None:
    found = {key: value for key, value in chains(numbers).items() if isinstance(value, Chain)}
    jumped = [name for key, value in found.items() if key.family == "ip" for name in value.references()]
    for number in numbers:
        assert jumped.count(Part(policy(number), "ingress").chain) == 1
    named = [name for name in jumped if "/stretch/" in name]
    assert all(ChainKey("ip", name) in found for name in named)
