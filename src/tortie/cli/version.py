"""``tortie version``."""

from __future__ import annotations

import click

import tortie


@click.command()
def command() -> None:
    """Print the version."""
    click.echo(tortie.__version__)
