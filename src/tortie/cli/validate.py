"""``tortie validate``."""

from __future__ import annotations

import click

from tortie.cli.options import file_options
from tortie.cli.write import namespace_option


@click.command()
@file_options
@namespace_option
def command(files: tuple[str, ...], recursive: bool, allow_unknown: bool, namespace: str) -> None:
    """Say everything that is wrong with the resources of files. Nothing is stored, and no datastore is asked.

    Exit code 0: all is well; 3: something is not.
    """
    from tortie.cli import printing
    from tortie.cli.inputs import read_files

    if not files:
        raise click.UsageError("name the files: tortie validate -f FILE")
    resources = read_files(files, recursive=recursive, namespace=namespace, allow_unknown=allow_unknown)
    click.echo(printing.summary("validated", [each.key for each in resources]))
