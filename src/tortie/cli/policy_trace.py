"""``tortie policy trace``: one real packet, followed through the nodes' nftables."""

from __future__ import annotations

import asyncio

import click


@click.command()
@click.option("--from", "source", required=True, metavar="POD|NODE", help="NAMESPACE/POD or a node.")
@click.option(
    "--to", "destination", required=True, metavar="POD|NODE|IP", help="NAMESPACE/POD, a node or an address."
)
@click.option("--port", "port", required=True, metavar="PORT", help="80/tcp, 53/udp, icmp …")
@click.option("--ip-version", type=click.Choice(["4", "6"]), help="Only this one.")
@click.option(
    "--size",
    type=click.IntRange(0, 65_000),
    help="Bytes of payload, of udp and icmp; the packet may not be fragmented.",
)
@click.option(
    "--lab",
    "lab_name",
    envvar="TORTIE_LAB",
    help="A lab's nodes; without it this host's, or the lab tortie's.",
)
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="For machines.")
def trace(
    source: str,
    destination: str,
    port: str,
    ip_version: str | None,
    size: int | None,
    lab_name: str | None,
    output: str | None,
) -> None:
    """Send a real packet and show what the kernel did with it, rule by rule, and where it was lost.

    Exit code 0: nothing dropped it; 1: it was lost; 2: it could not be tried.
    """
    from tortie.cli import exit_codes
    from tortie.cli.check import fleet_of
    from tortie.cli.output import show
    from tortie.diagnostics import trace as traces
    from tortie.diagnostics.ports import parse_port
    from tortie.errors import UsageError

    async def run() -> traces.Trace:
        asked = parse_port(port)
        if asked.name:
            raise UsageError(f"--port {port}: trace takes a number: write 80/tcp")
        if size is not None and not asked.carries_payload:
            raise UsageError(f"--size: the first packet of {port} has no payload: ask with udp or icmp")
        version = int(ip_version) if ip_version else None
        return await traces.trace(
            await fleet_of(lab_name), source, destination, asked, ip_version=version, size=size
        )

    with exit_codes.answering():
        found = asyncio.run(run())
    if output:
        show(found.document(), output)
    else:
        click.echo("\n".join(traces.tell(found)))
    if found.lost:
        raise SystemExit(exit_codes.FAILED)
