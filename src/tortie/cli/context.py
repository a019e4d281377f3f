"""What every command is given: which datastore, how to open it, and how to run what is asynchronous."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from tortie.datastore.store import Store

T = TypeVar("T")


@dataclass
class Settings:
    """The global options. None: what the environment or the configuration file says, or the default."""

    datastore: str | None = None
    config: str | None = None

    @asynccontextmanager
    async def store(self, *, make: bool = False) -> AsyncIterator[Store]:
        """The datastore that was chosen, open; ``make``: an SQLite file that is not there is made."""
        from tortie.datastore.open import open_store

        store = open_store(self.datastore, config=self.config, make=make)
        try:
            yield store
        finally:
            await store.close()


def settings() -> Settings:
    """The settings of the command that is running."""
    return click.get_current_context().ensure_object(Settings)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return what it returns."""
    import asyncio  # a third of the time that `tortie --help` takes

    return asyncio.run(work)


def _set(name: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def callback(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value:
            setattr(ctx.ensure_object(Settings), name, value)

    return callback


def global_options(*, hidden: bool = False) -> list[click.Option]:
    """``--datastore`` and ``--config``: in the help of ``tortie`` itself, and taken behind each command's name too."""
    return [
        click.Option(
            ["--datastore"],
            metavar="URL",
            hidden=hidden,
            expose_value=False,
            callback=_set("datastore"),
            help="sqlite:///PATH or etcd://HOST:PORT,…  [env: TORTIE_DATASTORE; default: sqlite:///var/lib/tortie/tortie.db]",
        ),
        click.Option(
            ["--config"],
            metavar="FILE",
            hidden=hidden,
            expose_value=False,
            callback=_set("config"),
            help="TOML file that names the datastore.  [env: TORTIE_CONFIG; default: /etc/tortie/tortie.toml]",
        ),
    ]


def take_global_options(command: click.Command) -> click.Command:
    """Let the command, and those below it, take the global options as well."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            take_global_options(each)
        return command
    taken = {text for param in command.params for text in param.opts}
    command.params += [option for option in global_options(hidden=True) if not taken & set(option.opts)]
    return command
