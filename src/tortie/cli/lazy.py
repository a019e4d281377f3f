"""A command group whose commands are imported when they are asked for, and whose help needs none of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """``lazy`` gives each command's module (``tortie.cli.get``) or ``module:attribute``, and its line in the help."""

    def __init__(
        self,
        *args: Any,
        lazy: Mapping[str, tuple[str, str]],
        dress: Callable[[click.Command], click.Command] = lambda command: command,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy
        self._dress = dress

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (where, _) in self._lazy.items() if _exists(where)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy or not _exists(self._lazy[cmd_name][0]):
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), attribute or "command")
        found.name = cmd_name
        return self._dress(found)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._lazy[name][1]) for name in self.list_commands(ctx)])


def _exists(where: str) -> bool:
    return importlib.util.find_spec(where.partition(":")[0]) is not None
