"""``tortie policy``: which rule decides, who reaches whom, and what a change would change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tortie.cli import exit_codes
from tortie.cli.context import Settings, run, settings
from tortie.cli.policy_counters import counters
from tortie.cli.policy_trace import trace

if TYPE_CHECKING:
    from tortie.diagnostics.cluster import Cluster
    from tortie.resources.resource import Resource, Update

F = TypeVar("F", bound=Callable[..., Any])

PORT_HELP = "80/tcp, 53/udp, icmp, a port's name …"


@click.group()
def command() -> None:
    """Which rule decides, who reaches whom, and what a change would change.

    Exit code 0: answered; 1: the answer is not the expected one; 2: there is no answer.
    """


command.add_command(counters)
command.add_command(trace)


def files_option(name: str, help_text: str, *flags: str) -> Callable[[F], F]:
    return click.option(
        *(flags or ("-f", "--filename")), name, multiple=True, metavar="FILE|DIR|-", help=help_text
    )


def output_option(command: F) -> F:
    return click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="For machines.")(command)


def shared_options(command: F) -> F:
    """``-R``, ``-n`` and ``--ip-version``."""
    for option in (
        click.option("--ip-version", type=click.Choice(["4", "6"]), help="Only this one."),
        click.option(
            "-n", "--namespace", default="default", show_default=True, help="For resources that name none."
        ),
        click.option("-R", "--recursive", is_flag=True, help="Folders below the folder too."),
    ):
        command = option(command)
    return command


@command.command()
@click.option(
    "--from", "source", required=True, metavar="POD|NODE|IP", help="NAMESPACE/POD, a node or an address."
)
@click.option(
    "--to", "destination", required=True, metavar="POD|NODE|IP", help="NAMESPACE/POD, a node or an address."
)
@click.option("--port", "port", required=True, metavar="PORT", help=PORT_HELP)
@click.option("--source-port", type=click.IntRange(1, 65535), help="The client's port.  [default: 49152]")
@click.option("--established", is_flag=True, help="A packet of a connection that is running already.")
@click.option(
    "--expect", type=click.Choice(["allow", "deny"]), help="Exit with 1 when the verdict is another."
)
@files_option("files", "Ask files instead of the datastore.")
@shared_options
@output_option
def explain(
    source: str,
    destination: str,
    port: str,
    source_port: int | None,
    established: bool,
    expect: str | None,
    files: tuple[str, ...],
    recursive: bool,
    namespace: str,
    ip_version: str | None,
    output: str | None,
) -> None:
    """Would a packet pass, and which rule says so."""
    from tortie.cli.output import show
    from tortie.diagnostics.explain import Question
    from tortie.diagnostics.explain import explain as answer_to
    from tortie.diagnostics.ports import parse_port
    from tortie.diagnostics.telling import tell
    from tortie.verdict.packet import SOURCE_PORT

    with exit_codes.answering():
        question = Question(
            source=source,
            destination=destination,
            port=parse_port(port),
            source_port=source_port or SOURCE_PORT,
            ip_version=int(ip_version) if ip_version else None,
            established=established,
        )
        answer = answer_to(the_cluster(files, recursive, namespace), question)
    if output:
        show(answer.document(), output)
    else:
        click.echo(tell(answer), nl=False)
    expected(answer.verdict, expect)


def expected(verdict: str, expect: str | None) -> None:
    if expect is not None and verdict != expect:
        click.echo(f"the verdict is {verdict}, expected was {expect}", err=True)
        raise SystemExit(exit_codes.FAILED)


def the_cluster(files: Sequence[str], recursive: bool, namespace: str) -> Cluster:
    """Of the files, or of the datastore without any. What is wrong in it is told."""
    from tortie.diagnostics.cluster import build

    cluster = build(updates_of(files, recursive, namespace, settings()), offline=bool(files))
    warn(cluster)
    return cluster


def updates_of(files: Sequence[str], recursive: bool, namespace: str, chosen: Settings) -> list[Update]:
    """The resources of the files, or all of the datastore."""
    from tortie.diagnostics.cluster import read_store
    from tortie.resources.resource import Put

    if files:
        return [Put(resource) for resource in read(files, recursive, namespace)]

    async def stored() -> list[Update]:
        async with chosen.store() as store:
            return await read_store(store)

    return run(stored())


def read(files: Sequence[str], recursive: bool, namespace: str) -> list[Resource[Any]]:
    from tortie.cli.inputs import read_files

    return read_files(files, recursive=recursive, namespace=namespace, allow_unknown=False)


def warn(cluster: Cluster) -> None:
    for problem in cluster.problems:
        click.echo(f"warning: {problem}", err=True)


@command.command()
@click.option(
    "--port", "ports", multiple=True, required=True, metavar="PORT", help=f"{PORT_HELP}; several times."
)
@files_option("files", "Ask files instead of the datastore.")
@shared_options
@click.option("-o", "--output", type=click.Choice(["json"]), help="Every pair, for machines.")
def matrix(
    ports: tuple[str, ...],
    files: tuple[str, ...],
    recursive: bool,
    namespace: str,
    ip_version: str | None,
    output: str | None,
) -> None:
    """Who reaches whom: all pods against all pods."""
    from tortie.diagnostics import matrix as found
    from tortie.diagnostics.ports import parse_port

    with exit_codes.answering():
        wanted = [parse_port(port) for port in ports]
        cluster = the_cluster(files, recursive, namespace)
        matrices = [found.matrix(cluster, port, ip_version=version(ip_version)) for port in wanted]
    if output == "json":
        for note in dict.fromkeys(note for each in matrices for note in each.notes):
            click.echo(f"note: {note}", err=True)
        write(found.as_json(matrices))
    else:
        for each in matrices:
            write(found.as_text(each))


@command.command()
@files_option("files", "What would be applied.")
@files_option("base", "What is there now: files instead of the datastore.", "--base")
@click.option("--delete", is_flag=True, help="As if what the files name were deleted, not applied.")
@click.option(
    "--port",
    "ports",
    multiple=True,
    metavar="PORT",
    help=f"{PORT_HELP}; several times.  [default: all that matter]",
)
@shared_options
@click.option("-o", "--output", type=click.Choice(["json"]), help="Every pair, for machines.")
def preview(
    files: tuple[str, ...],
    base: tuple[str, ...],
    delete: bool,
    ports: tuple[str, ...],
    recursive: bool,
    namespace: str,
    ip_version: str | None,
    output: str | None,
) -> None:
    """Which pairs of pods, and which ports, would get another verdict if files were applied."""
    from tortie.diagnostics import preview as found
    from tortie.diagnostics.cluster import build, overlay, without
    from tortie.diagnostics.ports import parse_port

    if not files:
        raise click.UsageError("name what would be applied: tortie policy preview -f NEW.yaml")
    with exit_codes.answering():
        wanted = [parse_port(port) for port in ports]
        new = read(files, recursive, namespace)
        stored = updates_of(base, recursive, namespace, settings())
        offline = bool(base)
        then = without(stored, new) if delete else overlay(stored, new)
        before, after = build(stored, offline=offline), build(then, offline=offline)
        warn(after)
        answer = found.preview(before, after, wanted, ip_version=version(ip_version))
    if output == "json":
        for note in answer.notes:
            click.echo(f"note: {note}", err=True)
    write(found.as_json(answer) if output == "json" else found.as_text(answer))


def version(text: str | None) -> int | None:
    return int(text) if text else None


def write(pieces: Iterable[str]) -> None:
    """Each as it comes."""
    for piece in pieces:
        click.echo(piece, nl=False)
