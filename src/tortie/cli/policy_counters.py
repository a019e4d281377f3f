"""``tortie policy counters``: what each rule of this node's policies has matched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tortie import columns
from tortie.cli.output import show


@click.command()
@click.option("--denied", is_flag=True, help="Only what was denied.")
@click.option("--all", "everything", is_flag=True, help="Also what has counted nothing yet.")
@click.option(
    "--run-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the agent's socket is.  [env: TORTIE_RUN_DIR; default: /run/tortie]",
)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="For machines.")
def counters(denied: bool, everything: bool, run_dir: Path | None, output: str | None) -> None:
    """What this node's policies have counted, rule by rule.

    A rule keeps its count when other rules of its policy change, and when the agent starts anew. Packets of connections that
    run already are not asked, and not counted. A staged policy counts what it would have done.
    """
    from tortie.admin.client import AdminClient
    from tortie.admin.fleet import own_socket, socket_in
    from tortie.cli.exit_codes import answering

    client = AdminClient(own_socket() if run_dir is None else socket_in(run_dir))
    with answering():
        rows: list[dict[str, Any]] = client.call_sync("counters")
    chosen = [
        row
        for row in rows
        if (everything or row["packets"]) and not (denied and (row["action"] != "Deny" or row["staged"]))
    ]
    if output is not None:
        show(chosen, output)
    else:
        click.echo(columns.table(chosen, _COLUMNS), nl=False)


def _policy(row: dict[str, Any]) -> str:
    if not row["kind"]:
        return "(end of the tier)" if row["decided_by"] == "tier-end" else "(no profile allows)"
    name = f"{row['namespace']}/{row['name']}" if row["namespace"] else row["name"]
    return f"{row['kind']} {name}"


def _action(row: dict[str, Any]) -> str:
    return f"{row['action']} (staged)" if row["staged"] else str(row["action"])


_COLUMNS = (
    columns.Column[dict[str, Any]]("DIRECTION", lambda row: row["direction"]),
    columns.Column[dict[str, Any]]("TIER", lambda row: row["tier"]),
    columns.Column[dict[str, Any]]("POLICY", _policy),
    columns.Column[dict[str, Any]]("RULE", lambda row: row["rule"]),
    columns.Column[dict[str, Any]]("ACTION", _action),
    columns.Column[dict[str, Any]]("PACKETS", lambda row: row["packets"]),
    columns.Column[dict[str, Any]]("BYTES", lambda row: row["bytes"]),
)
