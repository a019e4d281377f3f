"""``tortie apply``, ``create`` and ``replace``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tortie.cli.context import run, settings
from tortie.cli.options import file_options, output_option

if TYPE_CHECKING:
    from tortie.cli.changes import Verb

_DONE = {"apply": "applied", "create": "created", "replace": "replaced"}

namespace_option = click.option(
    "-n", "--namespace", default="default", show_default=True, help="For resources that name none."
)


def _write(
    verb: Verb,
    files: tuple[str, ...],
    *,
    recursive: bool,
    allow_unknown: bool,
    namespace: str,
    output: str | None,
    skip_exists: bool = False,
) -> None:
    from tortie.cli import changes, printing
    from tortie.cli.inputs import read_files

    if not files:
        raise click.UsageError(f"name the files: tortie {verb} -f FILE")
    resources = read_files(files, recursive=recursive, namespace=namespace, allow_unknown=allow_unknown)
    chosen = settings()

    async def work() -> None:
        async with chosen.store(make=True) as store:
            written = await changes.write(store, resources, verb, skip_exists=skip_exists)
        if output:
            printing.show(written, output=output, single=len(resources) == 1, namespaces=True)
        else:
            click.echo(printing.summary(_DONE[verb], [each.key for each in written]))
            if len(written) < len(resources):
                click.echo(f"Skipped {len(resources) - len(written)} that existed already")

    run(work())


@click.command()
@file_options
@namespace_option
@output_option()
def apply(
    files: tuple[str, ...], recursive: bool, allow_unknown: bool, namespace: str, output: str | None
) -> None:
    """Create or replace the resources of files. All of them are checked before the first is written.

    Fields and annotations that others stored stay; a resourceVersion in the file must be the stored one.
    """
    _write(
        "apply", files, recursive=recursive, allow_unknown=allow_unknown, namespace=namespace, output=output
    )


@click.command()
@file_options
@namespace_option
@output_option()
@click.option("--skip-exists", is_flag=True, help="Leave alone what exists already.")
def create(
    files: tuple[str, ...],
    recursive: bool,
    allow_unknown: bool,
    namespace: str,
    output: str | None,
    skip_exists: bool,
) -> None:
    """Create the resources of files. When one exists already, none is created."""
    _write(
        "create",
        files,
        recursive=recursive,
        allow_unknown=allow_unknown,
        namespace=namespace,
        output=output,
        skip_exists=skip_exists,
    )


@click.command()
@file_options
@namespace_option
@output_option()
def replace(
    files: tuple[str, ...], recursive: bool, allow_unknown: bool, namespace: str, output: str | None
) -> None:
    """Replace resources by those of files. When one does not exist, none is replaced."""
    _write(
        "replace", files, recursive=recursive, allow_unknown=allow_unknown, namespace=namespace, output=output
    )
