from __future__ import annotations

from tortie.datastore.store import Store
from tortie.errors import NotFound
from tortie.resources import registry
from tortie.resources.namespace import NAMESPACE
from tortie.resources.profile import PROFILE, ProfileSpec
from tortie.resources.resource import Metadata, Resource, ResourceKey
from tortie.resources.service_account import SERVICE_ACCOUNT
from tortie.workloads.labels import allow_all
from tortie.workloads.profiles import TRUST_SECONDS, Profiles

SHOP, CART = ResourceKey(NAMESPACE, "shop"), ResourceKey(SERVICE_ACCOUNT, "cart", "shop")


async def test_what_is_missing_is_made_and_allows_all(store: Store) -> None:
    await Profiles(store).ensure(("kns.shop", "ksa.shop.cart"))
    for name in ("kns.shop", "ksa.shop.cart"):
        found = await store.get(ResourceKey(PROFILE, name))
        assert [rule.action for rule in (*found.spec.ingress, *found.spec.egress)] == ["Allow", "Allow"]


def test_names_of_the_namespace_and_the_account_are_inherited() -> None:
    assert allow_all("kns.shop").spec.labels_to_apply == {"pcns.projectcalico.org/name": "shop"}
    assert allow_all("ksa.shop.cart.v2").spec.labels_to_apply == {"pcsa.projectcalico.org/name": "cart.v2"}
    assert allow_all("testnet").spec.labels_to_apply == {}


async def test_labels_of_the_namespace_and_the_account_are_inherited(store: Store) -> None:
    for key, labels in ((SHOP, {"team": "a", "kubernetes.io/metadata.name": "shop"}), (CART, {"tier": "b"})):
        await store.create(
            Resource(key=key, metadata=Metadata(labels=labels), spec=registry.info(key.kind).spec())
        )
    await Profiles(store).ensure(("kns.shop", "ksa.shop.cart"))
    assert (await store.get(ResourceKey(PROFILE, "kns.shop"))).spec.labels_to_apply == {
        "pcns.team": "a",
        "pcns.kubernetes.io/metadata.name": "shop",
        "pcns.projectcalico.org/name": "shop",
    }
    assert (await store.get(ResourceKey(PROFILE, "ksa.shop.cart"))).spec.labels_to_apply == {
        "pcsa.tier": "b",
        "pcsa.projectcalico.org/name": "cart",
    }


async def test_what_a_controller_made_stays(store: Store) -> None:
    made = Resource(key=ResourceKey(PROFILE, "kns.shop"), spec=ProfileSpec(labels_to_apply={"a": "b"}))
    await store.create(made)
    await Profiles(store).ensure(("kns.shop",))
    assert (await store.get(made.key)).spec.labels_to_apply == {"a": "b"}


async def test_a_profile_that_vanished_is_made_again_after_a_while(store: Store) -> None:
    now = 1000.0
    profiles = Profiles(store, clock=lambda: now)
    key = ResourceKey(PROFILE, "kns.shop")
    await profiles.ensure(("kns.shop",))
    await store.delete(key)
    await profiles.ensure(("kns.shop",))
    try:
        await store.get(key)
    except NotFound:
        pass
    else:
        raise AssertionError("nobody looked, and yet it is there")
    now += TRUST_SECONDS + 1
    await profiles.ensure(("kns.shop",))
    assert (await store.get(key)).spec.ingress


async def test_a_profile_of_which_we_hear_that_it_was_deleted_is_made_again_at_once(store: Store) -> None:
    profiles = Profiles(store)
    key = ResourceKey(PROFILE, "kns.shop")
    await profiles.ensure(("kns.shop",))
    await store.delete(key)
    profiles.forget("kns.shop")
    profiles.forget("kns.unknown")
    await profiles.ensure(("kns.shop",))
    assert (await store.get(key)).spec.ingress
