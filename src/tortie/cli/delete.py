"""``tortie delete``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tortie.cli.context import run, settings
from tortie.cli.options import file_options, output_option

if TYPE_CHECKING:
    from tortie.datastore.store import Store
    from tortie.resources.resource import ResourceKey


@click.command()
@click.argument("words", nargs=-1, metavar="[KIND NAME...]")
@file_options
@click.option("-n", "--namespace", default="default", show_default=True, help="Whose resources.")
@click.option(
    "--skip-not-exists",
    "--ignore-not-found",
    "skip_absent",
    is_flag=True,
    help="What does not exist is no error.",
)
@output_option("name")
def command(
    words: tuple[str, ...],
    files: tuple[str, ...],
    recursive: bool,
    allow_unknown: bool,
    namespace: str,
    skip_absent: bool,
    output: str | None,
) -> None:
    """Delete resources: those that files name, or those named here.

    An IPPool in use is marked terminating: it gives no new address, its pods keep their network, and it goes with its last one.
    A new pod that would have had an address of it is refused, unless another pool of the family takes its place.
    """
    from tortie.cli import printing
    from tortie.cli.changes import stored
    from tortie.cli.inputs import read_files
    from tortie.cli.naming import kind_and_names
    from tortie.errors import NotFound
    from tortie.resources.resource import ResourceKey

    if files:
        resources = read_files(files, recursive=recursive, namespace=namespace, allow_unknown=allow_unknown)
        keys = [each.key for each in reversed(resources)]
    else:
        info, names = kind_and_names(words)
        if not names:
            raise click.UsageError(f"name what to delete: tortie delete {info.words[0]} NAME")
        keys = [ResourceKey(info.kind, name, namespace if info.namespaced else "") for name in names]
    chosen = settings()

    async def work() -> list[ResourceKey]:
        async with chosen.store() as store:
            exact = [await _exact(store, key) for key in keys]
            await _refuse_full_tiers(store, exact)
            if not skip_absent:
                for key in exact:
                    if await stored(store, key) is None:
                        raise NotFound(str(key))
            return [key for key in exact if await _delete(store, key, skip_absent)]

    gone = run(work())
    if output == "name":
        for key in gone:
            group = f".{key.kind.group}" if key.kind.group else ""
            click.echo(f"{key.kind.name.lower()}{group}/{key.name}")
        return
    click.echo(printing.summary("deleted", gone))


async def _exact(store: Store, key: ResourceKey) -> ResourceKey:
    """For a kind whose key holds more than a name: the key of the resource that has this name."""
    from tortie.cli.changes import list_all
    from tortie.resources import registry

    if key.within or registry.info(key.kind).key_of is None:
        return key
    same = [each.key for each in await list_all(store, key.kind) if each.key.name == key.name]
    return same[0] if same else key


async def _refuse_full_tiers(store: Store, going: list[ResourceKey]) -> None:
    """The tiers that are built in stay, and others as long as a policy is in them: without its tier it would be lost."""
    from tortie.cli.changes import list_all
    from tortie.errors import InvalidDocument, InvalidResource
    from tortie.resources.taking import CALICO_POLICIES
    from tortie.resources.tier import BUILT_IN, TIER

    tiers = {key.name: key for key in going if key.kind == TIER}
    if not tiers:
        return
    findings = [
        InvalidResource("metadata.name", name, "is a tier that is built in: it stays", str(key))
        for name, key in tiers.items()
        if name in BUILT_IN
    ]
    for kind in CALICO_POLICIES:
        for policy in await list_all(store, kind):
            tier = tiers.get(policy.spec.tier)
            if tier is not None and policy.key not in going:
                findings.append(
                    InvalidResource(
                        "metadata.name",
                        tier.name,
                        f"is the tier of {policy.key}: delete that first",
                        str(tier),
                    )
                )
    if findings:
        raise InvalidDocument(findings)


async def _delete(store: Store, key: ResourceKey, skip_absent: bool) -> bool:
    """Whether it was there."""
    from tortie.errors import NotFound
    from tortie.resources.ip_pool import IP_POOL
    from tortie.resources.node import NODE
    from tortie.workloads.labels import withdraw

    try:
        if key.kind == IP_POOL:
            from tortie.ipam.pools import delete_pool

            if await delete_pool(store, key.name) == "terminating":
                click.echo(
                    f"{key} is in use: it is terminating and goes with the last of its addresses", err=True
                )
        else:
            await store.delete(key)
            await withdraw(store, key)
            if key.kind == NODE:
                from tortie.ipam.nodes import release_node

                await release_node(store, key.name)
    except NotFound:
        if skip_absent:
            return False
        raise
    return True
