"""``tortie patch``."""

from __future__ import annotations

from typing import Any

import click

from tortie.cli.context import run, settings
from tortie.cli.options import output_option
from tortie.errors import UsageError


@click.command()
@click.argument("kind")
@click.argument("name", metavar="[NAMESPACE/]NAME")
@click.option("-p", "--patch", "text", required=True, metavar="JSON|YAML", help="The patch itself.")
@click.option(
    "-t",
    "--type",
    "form",
    type=click.Choice(["strategic", "merge", "json"]),
    default="strategic",
    show_default=True,
    help="How it is meant.",
)
@click.option("-n", "--namespace", default="default", show_default=True, help="For a NAME without one.")
@output_option()
def command(kind: str, name: str, text: str, form: str, namespace: str, output: str | None) -> None:
    """Change some fields of a stored resource.

    strategic and merge: the fields to set; null removes one, a list is replaced whole. json: a list of operations (RFC 6902).
    """
    from tortie.cli import changes, printing
    from tortie.cli.naming import one_key

    info, key = one_key(kind, name, namespace)
    if not info.for_users or info.bare:
        raise UsageError(f"a {info.title} cannot be patched: apply it")
    patch = _parsed(text, form)
    chosen = settings()

    async def work() -> None:
        async with chosen.store() as store:
            written = await changes.patch(store, key, patch, form)
        if output:
            printing.show([written], output=output, single=True, namespaces=True)
        else:
            click.echo(printing.summary("patched", [written.key]))

    run(work())


def _parsed(text: str, form: str) -> Any:
    import json

    from tortie.errors import InvalidDocument
    from tortie.resources.documents import parse

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass  # YAML, then
    try:
        documents = parse(text, "(patch)")
    except InvalidDocument as error:
        raise UsageError(f"-p is neither JSON nor YAML: {error}") from None
    if form == "json":
        return [each.value for each in documents]
    if len(documents) != 1:
        raise UsageError("-p holds no patch, or several: give one")
    return documents[0].value
