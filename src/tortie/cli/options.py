"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def output_option(*forms: str) -> Callable[[F], F]:
    """``-o FORM`` as the argument ``output``; ``""`` when it is not given."""
    choice: click.Choice[str] = click.Choice(forms or ("json", "yaml", "wide", "name", "ps"))
    return click.option("-o", "--output", type=choice, default=None, help="How to print.")


def file_options(command: F) -> F:
    """``-f`` (several), ``-R`` and ``--allow-unknown`` as ``files``, ``recursive`` and ``allow_unknown``."""
    options: Sequence[Callable[[F], F]] = (
        click.option(
            "-f",
            "--filename",
            "files",
            multiple=True,
            metavar="FILE|DIR|-",
            help="File, folder, or - for standard input.",
        ),
        click.option("-R", "--recursive", is_flag=True, help="Folders below the folder too."),
        click.option(
            "--allow-unknown", is_flag=True, help="Take fields that Tortie does not know, and keep them."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
