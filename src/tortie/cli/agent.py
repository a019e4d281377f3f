"""``tortie agent``: run a node's agent, and ask the one that runs."""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

import click

from tortie.cli.context import settings
from tortie.cli.output import show, table
from tortie.desired.table import Problem


@click.group()
def command() -> None:
    """The agent of a node: one process that keeps its routes, rules and BGP in line with the datastore."""


@command.command()
@click.option(
    "--node", metavar="NAME", help="This node's name.  [env: NODENAME, HOSTNAME; default: the host's]"
)
@click.option(
    "--run-dir", metavar="DIR", help="Sockets and locks.  [env: TORTIE_RUN_DIR; default: /run/tortie]"
)
@click.option(
    "--state-dir",
    metavar="DIR",
    help="What outlives a start.  [env: TORTIE_STATE_DIR; default: /var/lib/tortie]",
)
@click.option(
    "--log-level",
    metavar="LEVEL",
    help="debug, info, warning, error.  [env: TORTIE_LOG_LEVEL; default: info]",
)
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), help="[env: TORTIE_LOG_FORMAT; default: text]"
)
@click.option("--hang-calculation-after", metavar="SECONDS", hidden=True)
@click.option("--hang-dataplane-after", metavar="SECONDS", hidden=True)
def run(
    node: str | None,
    run_dir: str | None,
    state_dir: str | None,
    log_level: str | None,
    log_format: str | None,
    hang_calculation_after: str | None,
    hang_dataplane_after: str | None,
) -> None:
    """Run this node's agent until it is stopped (SIGTERM). What is in the kernel stays when it ends."""
    from tortie.agent.config import load
    from tortie.agent.main import run as run_agent

    chosen = settings()
    options = {
        "NODENAME": node,
        "TORTIE_RUN_DIR": run_dir,
        "TORTIE_STATE_DIR": state_dir,
        "TORTIE_LOG_LEVEL": log_level,
        "TORTIE_LOG_FORMAT": log_format,
        "TORTIE_DATASTORE": chosen.datastore,
        "FELIX_DEBUGSIMULATECALCGRAPHHANGAFTER": hang_calculation_after,
        "FELIX_DEBUGSIMULATEDATAPLANEHANGAFTER": hang_dataplane_after,
    }
    config = load(
        os.environ,
        file=chosen.config,
        options={name: value for name, value in options.items() if value},
    )
    raise SystemExit(asyncio.run(run_agent(config)))


@command.command()
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="For machines.")
def status(output: str | None) -> None:
    """Whether this host's agent is well, and what it cannot do. Exit code 1 when it is not ready."""
    from tortie.admin.client import AdminClient
    from tortie.admin.fleet import own_socket

    answer: dict[str, Any] = AdminClient(own_socket()).call_sync("status")
    if output:
        show(answer, output)
    else:
        _print(answer)
    if not answer["ready"]:
        raise SystemExit(1)


@command.command()
@click.argument("name", metavar="TABLE", required=False)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="For machines.")
def dump(name: str | None, output: str | None) -> None:
    """What this host's agent wants to be real: the rows of TABLE, or without it which tables there are.

    ``workloads`` and ``kernel-routes`` are tables too: the workloads with their interfaces, and the routes that the kernel has.
    """
    from tortie.admin.client import AdminClient
    from tortie.admin.fleet import own_socket

    client = AdminClient(own_socket())
    if name is None:
        rows: list[dict[str, Any]] = client.call_sync("tables")
    elif name == "workloads":
        rows = client.call_sync("endpoints")
    elif name == "kernel-routes":
        rows = client.call_sync("routes")
    else:
        rows = client.call_sync("dump", name=name)
    if output:
        show(rows, output)
    else:
        table([{key.upper(): _cell(value) for key, value in row.items()} for row in rows])


def _cell(value: Any) -> str:
    whole: Any = value
    if isinstance(value, dict):
        items = cast("dict[str, Any]", whole).items()
        return " ".join(f"{key}={_cell(item)}" for key, item in items if item not in ("", None, []))
    return ",".join(map(str, cast("list[Any]", whole))) if isinstance(value, list) else str(whole)


def _print(answer: dict[str, Any]) -> None:
    state = "ready" if answer["ready"] else f"not ready: {answer['reason']}"
    click.echo(f"node {answer['node']}: agent pid {answer['pid']}, version {answer['version']}, {state}")
    click.echo(f"datastore: {answer['datastore']['url']}, {answer['datastore']['state']}")
    click.echo(f"in sync: {'yes' if answer['in_sync'] else 'no'}, generation {answer['generation']}")
    for loop in answer["loops"]:
        said = "ok" if loop["ready"] else loop["reason"]
        click.echo(f"  {loop['name']:<28} {said}")
    for problem in answer["problems"]:
        click.echo(f"invalid: {Problem(**problem)}")
    for failed in answer["failed"]:
        click.echo(f"failed: {failed['table']} {failed['key']}: {failed['error']}")
