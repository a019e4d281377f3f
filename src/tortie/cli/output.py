"""How commands print: plain values for machines, simple tables for people, progress to standard error."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import click

from tortie import columns


def show(value: Any, output: str) -> None:
    """A whole value as ``json`` or ``yaml``."""
    click.echo(columns.as_json(value) if output == "json" else columns.as_yaml(value), nl=False)


def table(rows: Sequence[dict[str, Any]]) -> None:
    """Rows that all have the same headings, in the order of the first's."""
    if rows:
        shown = [columns.Column[dict[str, Any]](heading, itemgetter(heading)) for heading in rows[0]]
        click.echo(columns.table(rows, shown), nl=False)


def progress(text: str) -> None:
    """A step of something that takes a while."""
    click.echo(f"  {text}", err=True)
