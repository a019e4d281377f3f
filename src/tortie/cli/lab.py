"""``tortie lab``: a whole cluster on this machine."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import click

from tortie.cli.context import Settings, run
from tortie.cli.output import progress, show, table
from tortie.errors import UsageError

T = TypeVar("T")

lab_option = click.option(
    "--lab", "lab_name", default="tortie", envvar="TORTIE_LAB", show_default=True, help="Which lab."
)
_PROTOCOLS = ("TCP", "UDP", "SCTP")
output_option = click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="For machines.")


@click.group()
def command() -> None:
    """A cluster of several nodes on this machine: namespaces, the real agent, the real BIRD. Needs root."""


@command.command()
@lab_option
@output_option
@click.option("--nodes", type=click.IntRange(1, 200), default=3, show_default=True, help="How many.")
@click.option("--datastore", type=click.Choice(["sqlite", "etcd"]), default="sqlite", show_default=True)
@click.option("--pool", default="192.168.0.0/16", show_default=True, help="The pods' network.")
@click.option("--dual-stack", is_flag=True, help="IPv6 beside IPv4.")
@click.option(
    "--uplinks", type=click.IntRange(1, 2), default=1, show_default=True, help="Networks a node is on."
)
def up(
    lab_name: str,
    output: str | None,
    nodes: int,
    datastore: Literal["sqlite", "etcd"],
    pool: str,
    dual_stack: bool,
    uplinks: int,
) -> None:
    """Build a lab; returns when its agents are ready and its BGP sessions established."""
    from tortie.lab import lab, state
    from tortie.lab.topology import topology

    state.require_root()
    wanted = topology(
        name=lab_name, nodes=nodes, datastore=datastore, pool=pool, dual_stack=dual_stack, uplinks=uplinks
    )
    asyncio.run(lab.up(wanted, progress))
    if output:
        show(state.status(wanted), output)
    else:
        click.echo(f"lab {lab_name} is up: {nodes} nodes, {wanted.store_url}")


@command.command()
@lab_option
@output_option
def down(lab_name: str, output: str | None) -> None:
    """Take a lab down: no process, namespace, interface or file of it stays."""
    from tortie.lab import lab, state

    state.require_root()
    asyncio.run(lab.down(lab_name, progress))
    if output:
        show({"name": lab_name}, output)
    else:
        click.echo(f"lab {lab_name} is down")


@command.command()
@lab_option
@output_option
def status(lab_name: str, output: str | None) -> None:
    """The lab's nodes and pods."""
    from tortie.lab import state

    found = state.status(state.load(lab_name))
    if output:
        show(found, output)
        return
    nodes = [
        {
            "NODE": node["name"],
            "ADDRESSES": ",".join(node["addresses"]),
            "AGENT": node["agent_pid"] or "down",
            "BIRD": node["bird_pid"] or "down",
            "PODS": len(node["pods"]),
        }
        for node in found["nodes"]
    ]
    pods = [
        {
            "POD": f"{pod['namespace']}/{pod['name']}",
            "NODE": node["name"],
            "ADDRESSES": ",".join(pod["ips"]),
            "INTERFACE": pod["interface"],
        }
        for node in found["nodes"]
        for pod in node["pods"]
    ]
    click.echo(f"lab {found['name']}, datastore {found['datastore']}\n")
    table(nodes)
    if pods:
        click.echo()
        table(pods)


class _Exec(click.Command):
    """Ours are the options before the command to run, on either side of PLACE; all from its first word on is the command's
    own, with or without a ``--`` before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        valued = {text for param in self.params if isinstance(param, click.Option) for text in param.opts}
        at, words = 0, 0
        while at < len(args) and args[at] != "--":
            ours = args[at].startswith("-")
            if not ours and words:
                break
            words += not ours
            at += 2 if args[at] in valued else 1
        own = args[at + 1 :] if args[at : at + 1] == ["--"] else args[at:]
        return super().parse_args(ctx, [*args[:at], "--", *own])


@command.command(name="exec", cls=_Exec)
@lab_option
@output_option
@click.argument("place")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, required=True)
def exec_(lab_name: str, output: str | None, place: str, argv: tuple[str, ...]) -> None:
    """Run a command inside PLACE: a node, a pod as NAMESPACE/POD, or the fabric. Output and exit code pass through; with -o
    the output is printed as stdout and stderr of one document once the command has ended, which gets no input."""
    from tortie.kernel import netns, process
    from tortie.lab import state
    from tortie.lab.pods import find_pod

    topology = state.load(lab_name)
    if place == "fabric":
        namespace = topology.fabric_netns
    elif "/" in place:
        namespace = find_pod(topology, place).netns
    else:
        namespace = topology.node(place).netns
    whole = ["nsenter", f"--net={netns.path_of(namespace)}", "--", *argv]
    if not output:
        sys.stdout.flush()
        process.become(whole)
    done = asyncio.run(process.run(whole, check=False, timeout_seconds=float("inf")))
    ended = 128 - done.status if done.status < 0 else done.status  # as a shell tells a signal
    document = {
        "exit_code": ended,
        "stdout": done.stdout.decode(errors="replace"),
        "stderr": done.stderr.decode(errors="replace"),
    }
    show(document, output)
    raise SystemExit(ended)


@command.command()
@lab_option
@output_option
@click.option("--node", help="With CNI_PATH and NETCONFPATH of this node, to call its plugin by hand.")
def env(lab_name: str, output: str | None, node: str | None) -> None:
    """Shell exports: ``eval "$(tortie lab env)"`` points every other command at the lab."""
    from tortie.lab import state

    variables = state.environment(state.load(lab_name), node)
    if output:
        show(dict(variables), output)
        return
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@command.group()
def pod() -> None:
    """Pods of a lab: a Pod document, a sandbox, and the CNI plugin called as a container runtime does."""


@pod.command(name="add")
@lab_option
@output_option
@click.argument("name")
@click.option("--node", required=True, help="Where it runs.")
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("--labels", default="", metavar="K=V,…")
@click.option("--annotations", default="", metavar="K=V,…")
@click.option("--ports", "published", default="", metavar="NAME:tcp:80,…")
@click.option("--service-account", default="default", show_default=True)
def pod_add(
    lab_name: str,
    output: str | None,
    name: str,
    node: str,
    namespace: str,
    labels: str,
    annotations: str,
    published: str,
    service_account: str,
) -> None:
    """Start a pod."""
    from tortie.lab import state
    from tortie.lab.pods import PodRequest, add_pod

    topology = state.load(lab_name)
    request = PodRequest(
        name=name,
        node=node,
        namespace=namespace,
        labels=_pairs("--labels", labels),
        annotations=_pairs("--annotations", annotations),
        ports=ports(published),
        service_account=service_account,
    )
    made = _with_store(topology.store_url, lambda store: add_pod(topology, store, request))
    if output:
        show(state.pod_object(made), output)
    else:
        click.echo(f"pod {namespace}/{name} runs on {node} at {', '.join(made.ips)} ({made.interface})")


@pod.command(name="rm")
@lab_option
@output_option
@click.argument("name")
@click.option("-n", "--namespace", default="default", show_default=True)
def pod_rm(lab_name: str, output: str | None, name: str, namespace: str) -> None:
    """Stop a pod, by its name or NAMESPACE/NAME."""
    from tortie.lab import state
    from tortie.lab.pods import find_pod, remove_pod

    topology = state.load(lab_name)
    found = find_pod(topology, name if "/" in name else f"{namespace}/{name}")
    _with_store(topology.store_url, lambda store: remove_pod(topology, store, found))
    if output:
        show(state.pod_object(found), output)
    else:
        click.echo(f"pod {found.namespace}/{found.name} is gone")


@command.command(hidden=True)
@lab_option
def supervise(lab_name: str) -> None:
    """Keep a lab's programs running; started by ``up``."""
    from tortie.lab import state
    from tortie.lab.supervisor import Supervisor

    asyncio.run(Supervisor(state.load(lab_name)).run())


def _with_store(url: str, work: Callable[[Any], Awaitable[T]]) -> T:
    async def opened() -> T:
        async with Settings(datastore=url).store() as store:
            return await work(store)

    return run(opened())


def _pairs(option: str, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in _split(text))):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise UsageError(f"{option} {part!r} is no pair: write KEY=VALUE,KEY=VALUE")
        found[key.strip()] = value.strip()
    return found


def _split(text: str) -> list[str]:
    """At the commas, but for those inside a JSON value: ``a=["x","y"],b=z`` has two pieces."""
    pieces, depth, quoted, start = list[str](), 0, False, 0
    for place, char in enumerate(text):
        if char == '"' and depth:
            quoted = not quoted
        elif not quoted and char in "[{":
            depth += 1
        elif not quoted and char in "]}":
            depth -= 1
        elif char == "," and depth <= 0:
            pieces.append(text[start:place])
            start = place + 1
    return [*pieces, text[start:]]


def ports(text: str) -> list[tuple[str, str, int]]:
    """``NAME:tcp:80,…`` as (name, protocol, number). Raises `UsageError`."""
    found: list[tuple[str, str, int]] = []
    for part in filter(None, text.split(",")):
        words = part.split(":")
        if len(words) != 3 or not words[0] or words[1].upper() not in _PROTOCOLS or not words[2].isdecimal():
            raise UsageError(f"--ports {part!r} is no port: write NAME:tcp:80")
        found.append((words[0], words[1].upper(), int(words[2])))
    return found
