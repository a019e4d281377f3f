"""``tortie label``."""

from __future__ import annotations

import click

from tortie.cli.context import run, settings
from tortie.errors import UsageError


@click.command()
@click.argument("kind")
@click.argument("name", metavar="[NAMESPACE/]NAME")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
@click.option("-n", "--namespace", default="default", show_default=True, help="For a NAME without one.")
@click.option("--overwrite", is_flag=True, hidden=True, help="What it does anyway.")
@click.option("--remove", is_flag=True, help="Remove each KEY, as calicoctl writes it.")
def command(
    kind: str, name: str, changes: tuple[str, ...], namespace: str, overwrite: bool, remove: bool
) -> None:
    """Set labels (KEY=VALUE) and remove them (KEY-): of a pod, a namespace, a node or another resource.

    Those of a running pod reach its workload endpoint, those of a namespace its profile, at once.
    """
    from tortie.cli.naming import one_key
    from tortie.workloads.labels import relabel

    info, key = one_key(kind, name, namespace)
    if info.bare:
        raise UsageError(f"a {info.title} has no labels")
    wanted: dict[str, str | None] = {}
    for change in changes:
        label, equals, value = change.partition("=")
        if remove and not equals:
            wanted[change.removesuffix("-")] = None
            continue
        if not equals and not change.endswith("-"):
            raise UsageError(f"{change!r} is neither KEY=VALUE nor KEY-")
        wanted[label if equals else change[:-1]] = value if equals else None
    chosen = settings()

    async def work() -> None:
        async with chosen.store() as store:
            labelled = await relabel(store, key, wanted)
        shown = ",".join(f"{label}={value}" for label, value in sorted(labelled.metadata.labels.items()))
        click.echo(f"{key} labelled: {shown or '(none)'}")

    run(work())
