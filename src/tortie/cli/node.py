"""``tortie node``: this host as a node of the cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tortie import columns
from tortie.cli.output import show

NOT_ESTABLISHED = 1
"""The exit code when a session is not up."""

_TYPES = {"mesh": "node-to-node mesh", "node": "node specific", "global": "global"}
"""Calico's words for the kinds of peers."""


@click.group()
def command() -> None:
    """This host as a node of the cluster."""


@command.command()
@click.option(
    "--run-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where the agent's socket is.  [env: TORTIE_RUN_DIR; default: /run/tortie]",
)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="For machines.")
def status(run_dir: Path | None, output: str | None) -> None:
    """BIRD and its BGP sessions: with whom, since when, and why one is not up. Exit code 1 when one is not."""
    from tortie.admin.client import AdminClient
    from tortie.admin.fleet import own_socket, socket_in

    client = AdminClient(own_socket() if run_dir is None else socket_in(run_dir))
    answer: dict[str, Any] = client.call_sync("node-status")
    if output is not None:
        show(answer, output)
    else:
        click.echo(page(answer), nl=False)
    if not all(row["up"] for row in answer["sessions"]):
        raise SystemExit(NOT_ESTABLISHED)


def page(answer: dict[str, Any]) -> str:
    """The answer as ``calicoctl node status`` lays it out, with two columns more."""
    bird = answer["bird"]
    if bird is None:
        return "This node speaks no BGP: its Node resource has no BGP address.\n"
    parts = [f"BIRD {bird['version']} is running since {bird['started']}.\n"]
    if bird["recovering"]:
        parts.append("It has restarted and waits for its peers before it changes routes.\n")
    for version in (4, 6):
        rows = [row for row in answer["sessions"] if (":" in row["peer"]) == (version == 6)]
        if rows:
            parts.append(f"\nIPv{version} BGP status\n{columns.framed(rows, _COLUMNS)}")
        else:
            parts.append(f"\nIPv{version} BGP status\nNo IPv{version} peers found.\n")
    return "".join(parts)


def _state(row: dict[str, Any]) -> str:
    if row["up"]:
        return "up"
    return "missing" if row["state"] == "Missing" else "start"


def _info(row: dict[str, Any]) -> str:
    return f"{row['state']}: {row['reason']}" if row["reason"] else str(row["state"])


_COLUMNS = (
    columns.Column[dict[str, Any]]("PEER ADDRESS", lambda row: row["peer"]),
    columns.Column[dict[str, Any]]("NODE", lambda row: row["node"]),
    columns.Column[dict[str, Any]]("PEER TYPE", lambda row: _TYPES.get(row["kind"], row["kind"])),
    columns.Column[dict[str, Any]]("STATE", _state),
    columns.Column[dict[str, Any]]("SINCE", lambda row: row["since"]),
    columns.Column[dict[str, Any]]("INFO", _info),
)
