"""``tortie get``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tortie.cli.context import run, settings
from tortie.cli.options import file_options, output_option

if TYPE_CHECKING:
    from tortie.datastore.store import Store
    from tortie.resources.kind_info import KindInfo
    from tortie.resources.resource import Resource


@click.command()
@click.argument("words", nargs=-1, metavar="KIND [NAME]...")
@file_options
@click.option("-n", "--namespace", default="default", show_default=True, help="Whose resources.")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Those of all namespaces.")
@click.option("--export", is_flag=True, help="Without what only this datastore gave them.")
@output_option()
def command(
    words: tuple[str, ...],
    files: tuple[str, ...],
    recursive: bool,
    allow_unknown: bool,
    namespace: str,
    everywhere: bool,
    export: bool,
    output: str | None,
) -> None:
    """Show the resources of a kind or of several (pools,nodes), those named, or those that files name."""
    from tortie.cli import printing
    from tortie.cli.inputs import read_files
    from tortie.cli.naming import kinds_and_names

    chosen = settings()
    if files:
        keys = [
            each.key
            for each in read_files(
                files, recursive=recursive, namespace=namespace, allow_unknown=allow_unknown
            )
        ]

        async def by_file() -> list[Resource[Any]]:
            async with chosen.store() as store:
                return [await store.get(key) for key in keys]

        found, single = run(by_file()), len(keys) == 1
    else:
        infos, names = kinds_and_names(words)

        async def by_name() -> list[Resource[Any]]:
            async with chosen.store() as store:
                return [
                    each
                    for info in infos
                    for each in (
                        await _named(store, info, names, namespace)
                        if names
                        else await _all(store, info, "" if everywhere or not info.namespaced else namespace)
                    )
                ]

        found, single = run(by_name()), len(infos) == len(names) == 1
        if not found and output not in ("json", "yaml", "name"):
            kinds = ", ".join(info.words[0] for info in infos)
            where = f" in namespace {namespace}" if infos[0].namespaced and not everywhere else ""
            click.echo(f"No {kinds}{where}", err=True)
            return
    printing.show(found, output=output, single=single, export=export, namespaces=everywhere)


async def _all(store: Store, info: KindInfo, within: str) -> list[Resource[Any]]:
    """All of a kind; what cannot be read is reported and left out."""
    from tortie.resources.resource import Invalid, Put

    found: list[Resource[Any]] = []
    async for page in store.list(info.kind, within=within):
        for update in page.updates:
            if isinstance(update, Put):
                found.append(update.resource)
            elif isinstance(update, Invalid):
                click.echo(f"warning: {update.key}: {update.reason}", err=True)
    return found


async def _named(store: Store, info: KindInfo, names: list[str], namespace: str) -> list[Resource[Any]]:
    from tortie.errors import NotFound
    from tortie.resources.resource import ResourceKey

    if info.key_of is None:
        within = namespace if info.namespaced else ""
        return [await store.get(ResourceKey(info.kind, name, within)) for name in names]
    everything = await _all(store, info, "")
    found: list[Resource[Any]] = []
    for name in names:
        same = [each for each in everything if each.key.name == name]
        if not same:
            raise NotFound(f"{info.title} {name}")
        found += same
    return found
