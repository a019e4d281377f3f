"""``tortie ipam``: who has which address, whether that is in order, and putting it right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tortie import columns
from tortie.cli.context import run, settings
from tortie.cli.output import show as show_document
from tortie.errors import InvalidDocument, UsageError

if TYPE_CHECKING:
    from tortie.ipam.leaks import Problem, Snapshot
    from tortie.ipam.repair import Repair
    from tortie.net.addresses import Address

PROBLEMS_FOUND = 1
"""The exit code of a check that leaves problems, and of a release that did not happen."""

_machine = click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="For machines.")


@click.group()
def command() -> None:
    """Addresses: how many there are, who has them, what is wrong with them."""


@command.command()
@click.option("--show-blocks", is_flag=True, help="Each block as well.")
@click.option("--show-borrowed", is_flag=True, help="Addresses that nodes have from other nodes' blocks.")
@click.option("--show-configuration", is_flag=True, help="How blocks are given to nodes.")
@click.option("--ip", "address", metavar="ADDRESS", help="Who has this address.")
@_machine
def show(
    show_blocks: bool, show_borrowed: bool, show_configuration: bool, address: str | None, output: str | None
) -> None:
    """How full the pools are."""
    from tortie.ipam.leaks import look
    from tortie.ipam.records import find
    from tortie.ipam.terms import CONFIGURATION_KEY, read_terms
    from tortie.resources.ipam_configuration import IPAMConfigurationSpec

    wanted = _address(address) if address is not None else None
    chosen = settings()

    async def read() -> tuple[Any, Any, Any]:
        async with chosen.store() as store:
            stored = await find(store, CONFIGURATION_KEY)
            spec = stored.spec if stored is not None else IPAMConfigurationSpec()
            return spec, await read_terms(store, ""), await look(store)

    configuration, terms, snapshot = run(read())
    if wanted is not None:
        _show_address(snapshot, wanted, terms, output)
    elif show_configuration:
        values = {
            "StrictAffinity": configuration.strict_affinity,
            "AutoAllocateBlocks": configuration.auto_allocate_blocks,
            "MaxBlocksPerHost": configuration.max_blocks_per_host,
            "IPCooldownSeconds": configuration.ip_cooldown_seconds,
        }
        if output is not None:
            show_document(values, output)
        else:
            click.echo(columns.framed(list(values.items()), _PROPERTIES), nl=False)
    elif show_borrowed:
        _show_borrowed(snapshot, output)
    else:
        _show_usage(snapshot, terms.reservations, show_blocks, output)


def _show_usage(snapshot: Snapshot, reservations: Any, blocks: bool, output: str | None) -> None:
    from tortie.ipam.usage import usage

    rows = usage(snapshot, reservations, blocks=blocks)
    if output is None:
        click.echo(columns.framed(rows, _USAGE), nl=False)
        return
    document = [
        {
            "grouping": row.grouping,
            "cidr": str(row.cidr),
            "pool": row.name,
            "node": row.owner,
            "total": row.total,
            "in_use": row.used,
            "reserved": row.reserved,
            "free": row.free,
        }
        for row in rows
    ]
    show_document(document, output)


def _show_borrowed(snapshot: Snapshot, output: str | None) -> None:
    from tortie.ipam.usage import borrowed

    rows = borrowed(snapshot)
    if output is None:
        click.echo(columns.framed(rows, _BORROWED), nl=False)
        return
    names = ("address", "node", "block", "owner", "type", "holder")
    show_document([{name: str(getattr(row, name)) for name in names} for row in rows], output)


def _show_address(snapshot: Snapshot, address: Address, terms: Any, output: str | None) -> None:
    from tortie.ipam.blocks import owner
    from tortie.ipam.usage import who_has

    cidr, who = who_has(snapshot, address)
    pool = terms.pool_of(address)
    reserved = any(each.holds(address) for each in terms.reservations)
    block = snapshot.blocks.get(cidr) if cidr is not None else None
    users = [endpoint.name for endpoint in snapshot.endpoints.get(address, ())]
    if output is not None:
        document = {
            "ip": str(address),
            "in_use": who is not None,
            "reserved": reserved,
            "pool": pool.name if pool is not None else None,
            "block": str(cidr) if cidr is not None else None,
            "node": owner(block.spec) if block is not None else None,
            "handle": who.handle if who is not None else None,
            "sequence": who.sequence if who is not None else None,
            "attributes": dict(who.attributes) if who is not None else {},
            "endpoints": users,
        }
        show_document(document, output)
        return
    if who is None:
        if pool is None:
            click.echo(f"{address} is not assigned and lies in no IP pool")
        else:
            click.echo(f"{address} is not assigned{', and reserved' if reserved else ''}")
        return
    click.echo(f"IP {address} is in use")
    click.echo("Attributes:")
    click.echo(f"  Handle ID: {who.handle}")
    for name, value in sorted(who.attributes.items()):
        click.echo(f"  {name}: {value}")
    click.echo(f"  block: {cidr}" + (f" of {owner(block.spec) or 'nobody'}" if block is not None else ""))
    if users:
        click.echo(f"  endpoint: {', '.join(users)}")


@command.command()
@click.option("--repair", "repairing", is_flag=True, help="Put right what a second look confirms.")
@click.option(
    "--second-look",
    type=click.FloatRange(min=0),
    help="Seconds between the two looks.  [default: 0.5; with --repair 3]",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    help="Addresses younger than this many seconds are not freed.  [default: 30]",
)
@click.option("--show-all-ips", is_flag=True, help="Every allocated address.")
@click.option("--report", type=click.Path(path_type=Path), help="Write the JSON to this file as well.")
@_machine
def check(
    repairing: bool,
    second_look: float | None,
    grace: float | None,
    show_all_ips: bool,
    report: Path | None,
    output: str | None,
) -> None:
    """Compare blocks, handles, affinities, nodes and endpoints. Exit code 1 when something is, and stays, wrong."""
    from tortie.ipam import leaks
    from tortie.ipam import repair as repairs

    chosen = settings()

    async def work() -> tuple[Snapshot, list[Problem], list[Repair]]:
        async with chosen.store() as store:
            if not repairing:
                wait = leaks.SECOND_LOOK_SECONDS if second_look is None else second_look
                snapshot, problems = await leaks.check(store, second_look_seconds=wait)
                return snapshot, problems, []
            done = await repairs.repair(
                store,
                second_look_seconds=repairs.REPAIR_LOOK_SECONDS if second_look is None else second_look,
                grace_seconds=repairs.GRACE_SECONDS if grace is None else grace,
            )
            return done.snapshot, list(done.left), list(done.repairs)

    snapshot, problems, done = run(work())
    document = _check_document(snapshot, problems, done, every=show_all_ips)
    if report is not None:
        report.write_text(columns.as_json(document))
    if output is not None:
        show_document(document, output)
    else:
        _print_check(document)
    if problems:
        raise SystemExit(PROBLEMS_FOUND)


def _check_document(
    snapshot: Snapshot, problems: list[Problem], repairs: list[Repair], *, every: bool
) -> dict[str, Any]:
    from tortie.ipam.leaks import describe

    allocations = list(snapshot.allocations())
    document: dict[str, Any] = {
        "ok": not problems,
        "counts": {
            "pools": len(snapshot.pools),
            "blocks": len(snapshot.blocks),
            "handles": len(snapshot.handles),
            "nodes": len(snapshot.nodes),
            "addresses": len(allocations),
            "addresses used by endpoints": len(snapshot.endpoints),
        },
        "problems": [_problem_document(problem) for problem in problems],
        "repairs": [
            {**_problem_document(each.problem), "done": each.done, "outcome": each.text} for each in repairs
        ],
    }
    if every:
        document["addresses"] = [
            {"ip": str(address), "block": str(cidr), "handle": who.handle, "holder": describe(who)}
            for cidr, address, who in allocations
        ]
    return document


def _problem_document(problem: Problem) -> dict[str, Any]:
    return {
        "kind": problem.kind.value,
        "subject": problem.subject,
        "text": problem.text,
        "node": problem.node,
        "handle": problem.handle,
        "sequence": problem.sequence,
    }


def _print_check(document: dict[str, Any]) -> None:
    click.echo("Checked " + ", ".join(f"{count} {what}" for what, count in document["counts"].items()) + ".")
    if document.get("addresses"):
        click.echo(columns.framed(document["addresses"], _ADDRESSES), nl=False)
    if document["repairs"]:
        click.echo(columns.framed(document["repairs"], _REPAIRS), nl=False)
    if document["problems"]:
        click.echo(columns.framed(document["problems"], _PROBLEMS), nl=False)
    click.echo(f"Check complete; found {len(document['problems'])} problems.")


@command.command()
@click.option("--ip", "addresses", multiple=True, metavar="ADDRESS", help="This address, whoever has it.")
@click.option("--handle", "handles", multiple=True, metavar="HANDLE", help="All addresses of this handle.")
@click.option(
    "--from-report",
    "reports",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The leaked addresses of a report of `ipam check`, unless they were given to others since.",
)
@click.option("--force", is_flag=True, help="Although a workload endpoint uses it.")
def release(
    addresses: tuple[str, ...], handles: tuple[str, ...], reports: tuple[Path, ...], force: bool
) -> None:
    """Give back addresses that nobody needs. An address that an endpoint uses is refused."""
    from tortie.ipam.allocator import Allocator, Release
    from tortie.ipam.leaks import endpoints

    if not addresses and not handles and not reports:
        raise click.UsageError("name what to release: --ip, --handle or --from-report")
    wanted = [Release(_address(text)) for text in addresses]
    for report in reports:
        wanted += _reported(report)
    chosen = settings()

    async def work() -> bool:
        async with chosen.store() as store:
            allocator = Allocator(store, "")
            async with allocator.closing():
                of_handles = {handle: await allocator.by_handle(handle) for handle in handles}
                used = {} if force else await endpoints(store)
                refused = [
                    (address, used[address][0].name)
                    for address in (*(each.address for each in wanted), *sum(of_handles.values(), ()))
                    if address in used
                ]
                for address, name in refused:
                    click.echo(
                        f"{address} is used by {name}: kept (--force releases it all the same)", err=True
                    )
                kept = {address for address, _ in refused}
                answers = await allocator.release(each for each in wanted if each.address not in kept)
                for address, refusal in answers.items():
                    click.echo(f"{address} {_ANSWERS[refusal.name if refusal is not None else '']}")
                for handle, has in of_handles.items():
                    if not kept.intersection(has):
                        released = await allocator.release_handle(handle)
                        told = ", ".join(map(str, released)) or "no address"
                        click.echo(f"handle {handle}: released {told}")
                return not refused

    if not run(work()):
        raise SystemExit(PROBLEMS_FOUND)


def _reported(path: Path) -> list[Any]:
    from tortie.ipam.allocator import Release
    from tortie.ipam.leaks import Kind

    try:
        problems = json.loads(path.read_text())["problems"]
        return [
            Release(_address(each["subject"]), each["handle"] or None, each["sequence"])
            for each in problems
            if each["kind"] == Kind.LEAKED.value
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no report of 'tortie ipam check -o json': {error}") from None


@command.command()
@click.option(
    "--strict-affinity",
    "--strictaffinity",  # as calicoctl spells it
    type=bool,
    metavar="true|false",
    help="No borrowing from other nodes' blocks.",
)
@click.option("--max-blocks-per-host", type=click.IntRange(min=0), help="Blocks of a family a node; 0 is 20.")
@click.option(
    "--auto-allocate-blocks", type=bool, metavar="true|false", help="Nodes claim blocks by themselves."
)
@click.option("--ip-cooldown-seconds", type=click.IntRange(0, 1200), help="How long a freed address rests.")
def configure(**given: Any) -> None:
    """Change how blocks and addresses are given. What is not named stays."""
    import msgspec

    from tortie.errors import AlreadyExists, Conflict
    from tortie.ipam.records import find
    from tortie.ipam.terms import CONFIGURATION_KEY
    from tortie.resources.ipam_configuration import IPAMConfigurationSpec, validate
    from tortie.resources.resource import Resource

    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("name what to change: " + ", ".join(f"--{n.replace('_', '-')}" for n in given))
    chosen = settings()

    async def work() -> None:
        async with chosen.store(make=True) as store:
            for _ in range(10):
                stored = await find(store, CONFIGURATION_KEY)
                before = stored or Resource(key=CONFIGURATION_KEY, spec=IPAMConfigurationSpec())
                after: Resource[Any] = before.with_spec(msgspec.structs.replace(before.spec, **changes))
                if findings := validate(after):
                    raise InvalidDocument(findings)
                try:
                    await (store.create(after) if stored is None else store.update(after))
                except (AlreadyExists, Conflict):
                    continue
                return
            raise Conflict(str(CONFIGURATION_KEY))

    run(work())
    for name, value in changes.items():
        shown = columns.text_of(value)
        words = {"ip": "IP"}
        click.echo(
            f"Successfully set {''.join(words.get(w, w.capitalize()) for w in name.split('_'))} to: {shown}"
        )


def _address(text: str) -> Address:
    from tortie.net.addresses import Address

    try:
        return Address.parse(text)
    except ValueError:
        raise UsageError(f"{text} is no IP address") from None


def _share(count: int, total: int) -> str:
    return f"{count:.5g} ({100 * count / total:.0f}%)"


_ANSWERS = {
    "": "released",
    "FREE": "is not assigned",
    "OTHER_HANDLE": "is kept: another handle has it by now",
    "OTHER_SEQUENCE": "is kept: it was given out again since",
}

_USAGE = (
    columns.Column[Any]("GROUPING", lambda row: row.grouping),
    columns.Column[Any]("CIDR", lambda row: str(row.cidr)),
    columns.Column[Any]("IPS TOTAL", lambda row: f"{row.total:.5g}"),
    columns.Column[Any]("IPS IN USE", lambda row: _share(row.used, row.total)),
    columns.Column[Any]("IPS RESERVED", lambda row: _share(row.reserved, row.total)),
    columns.Column[Any]("IPS FREE", lambda row: _share(row.free, row.total)),
)
_BORROWED = (
    columns.Column[Any]("IP", lambda row: str(row.address)),
    columns.Column[Any]("BORROWING-NODE", lambda row: row.node),
    columns.Column[Any]("BLOCK", lambda row: str(row.block)),
    columns.Column[Any]("BLOCK OWNER", lambda row: row.owner),
    columns.Column[Any]("TYPE", lambda row: row.type),
    columns.Column[Any]("ALLOCATED-TO", lambda row: row.holder),
)
_PROPERTIES = (
    columns.Column[Any]("PROPERTY", lambda row: row[0]),
    columns.Column[Any]("VALUE", lambda row: row[1]),
)
_ADDRESSES = (
    columns.Column[Any]("IP", lambda row: row["ip"]),
    columns.Column[Any]("BLOCK", lambda row: row["block"]),
    columns.Column[Any]("ALLOCATED-TO", lambda row: row["holder"]),
)
_PROBLEMS = (
    columns.Column[Any]("KIND", lambda row: row["kind"]),
    columns.Column[Any]("PROBLEM", lambda row: row["text"]),
)
_REPAIRS = (
    columns.Column[Any]("KIND", lambda row: row["kind"]),
    columns.Column[Any]("SUBJECT", lambda row: row["subject"]),
    columns.Column[Any]("REPAIRED", lambda row: row["done"]),
    columns.Column[Any]("OUTCOME", lambda row: row["outcome"]),
)
