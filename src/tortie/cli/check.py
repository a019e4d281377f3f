"""``tortie check``: does the network do what it promises?"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import click

from tortie.cli.output import progress, show, table

FAILED = 1
"""The exit code when a case fails."""


@click.group()
def command() -> None:
    """Checks with real packets. Exit code 0: all is well; 1: a case failed; others as everywhere."""


@command.command()
@click.option(
    "--lab",
    "lab_name",
    envvar="TORTIE_LAB",
    help="A lab's nodes; without it this host's, or the lab tortie's.",
)
@click.option(
    "-o", "--output", type=click.Choice(["json", "yaml", "wide"]), help="For machines; wide: every case."
)
def reachability(lab_name: str | None, output: str | None) -> None:
    """Pods reach pods and nodes, nodes reach pods, all without NAT."""
    from tortie.diagnostics.reachability import Report, check

    async def run() -> Report:
        return await check(await fleet_of(lab_name), _quiet if output in ("json", "yaml") else progress)

    report = asyncio.run(run())
    if output in ("json", "yaml"):
        document: dict[str, Any] = {
            "ok": report.ok,
            "cases": [dataclasses.asdict(case) for case in report.cases],
        }
        if report.unreachable:
            document["unreachable"] = dict(report.unreachable)
        show(document, output)
    else:
        _print(report, every=output == "wide")
    if not report.ok:
        raise SystemExit(FAILED)


async def fleet_of(lab_name: str | None) -> Any:
    from tortie.admin.fleet import Fleet, own_socket
    from tortie.lab import state
    from tortie.lab.lab import admin_clients

    if lab_name is None and not own_socket().exists() and "tortie" in state.names():
        lab_name = "tortie"
    if lab_name is None:
        return await Fleet.of_this_host()
    return Fleet(admin_clients(state.load(lab_name)))


def _print(report: Any, *, every: bool) -> None:
    summary: dict[tuple[str, str], list[Any]] = {}
    for case in report.cases:
        spot = "same node" if case.same_node else "across nodes"
        summary.setdefault((case.case, f"{spot}, {case.family}"), []).append(case)
    rows = [
        {
            "CASE": case,
            "WHERE": where,
            "OK": f"{sum(row.ok for row in found)}/{len(found)}",
            "NAT": str(sum(row.nat is True for row in found) or "none"),
            "LOSS": f"{sum(row.loss for row in found) / len(found):.0%}",
            "RTT": _middle([row.rtt_ms for row in found if row.rtt_ms is not None]),
        }
        for (case, where), found in sorted(summary.items())
    ]
    table(rows)
    shown = report.cases if every else [case for case in report.cases if not case.ok]
    if shown:
        click.echo()
        table(
            [
                {
                    "SOURCE": f"{case.source} ({case.source_ip})",
                    "DESTINATION": f"{case.destination} ({case.destination_ip})",
                    "OK": "yes" if case.ok else "NO",
                    "LOSS": f"{case.loss:.0%}",
                    "RTT": "" if case.rtt_ms is None else f"{case.rtt_ms:.2f} ms",
                    "REASON": case.reason or "",
                }
                for case in shown
            ]
        )
    for node, reason in report.unreachable.items():
        click.echo(f"{node} was not asked: {reason}")
    if not report.cases:
        click.echo("there is no pod to try: in a lab, 'tortie lab pod add web --node node1' makes one")
    click.echo("\nall reach each other, without NAT" if report.ok else "\nnot all is well")


def _middle(values: list[float]) -> str:
    return f"{sorted(values)[len(values) // 2]:.2f} ms" if values else ""


def _quiet(_: str) -> None:
    """Machines read the answer alone."""
