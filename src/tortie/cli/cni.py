"""``tortie cni``: the plugin on this host."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tortie.errors import TortieError, UsageError

BIN_DIR = "/opt/cni/bin"
CONF_DIR = "/etc/cni/net.d"


@click.group()
def command() -> None:
    """The CNI plugin: a small static program that hands a container runtime's requests to the agent."""


@command.command()
@click.option("--bin-dir", type=click.Path(path_type=Path), default=BIN_DIR, show_default=True)
@click.option("--conf-dir", type=click.Path(path_type=Path), default=CONF_DIR, show_default=True)
@click.option("--socket", default=None, help="The agent's socket. [default: /run/tortie/cni.sock]")
@click.option(
    "--network", default="tortie", show_default=True, help="The network's name in the configuration."
)
@click.option("--mtu", type=click.IntRange(0, 65535), default=0, help="0: as the agent decides.")
@click.option("--version", "spec_version", default=None, help="The CNI version to speak. [default: 1.0.0]")
@click.option(
    "--chain",
    "chained",
    multiple=True,
    help="A further plugin of the list, again for each. [default: portmap, bandwidth]",
)
@click.option("--no-chain", is_flag=True, help="Tortie alone.")
@click.option(
    "--ipam",
    default=None,
    metavar="JSON",
    help='The section "ipam", such as {"type": "host-local", "ranges": […]}. [default: Tortie\'s own]',
)
@click.option("--print", "only_print", is_flag=True, help="Print the configuration, write nothing.")
def install(
    bin_dir: Path,
    conf_dir: Path,
    socket: str | None,
    network: str,
    mtu: int,
    spec_version: str | None,
    chained: tuple[str, ...],
    no_chain: bool,
    ipam: str | None,
    only_print: bool,
) -> None:
    """Write the plugin and its configuration where a container runtime looks, each in one atomic step.

    The plugin comes first, so that no runtime finds a configuration without it. Run it again after an upgrade: a
    request that is under way is not disturbed.
    """
    from tortie.cni import install as room
    from tortie.cni.config import DEFAULT_SOCKET, parse_config
    from tortie.cni.versions import INSTALLED, SUPPORTED

    if spec_version is not None and spec_version not in SUPPORTED:
        raise UsageError(f"--version {spec_version}: is not one of {', '.join(SUPPORTED)}")
    if no_chain and chained:
        raise UsageError("--no-chain and --chain exclude each other")
    configuration = room.conflist(
        network=network,
        socket=socket or DEFAULT_SOCKET,
        mtu=mtu,
        chained=() if no_chain else chained or ("portmap", "bandwidth"),
        version=spec_version or INSTALLED,
        plugin={"ipam": _section(ipam)} if ipam else None,
    )
    own = {"cniVersion": configuration["cniVersion"], "name": network, **configuration["plugins"][0]}
    try:
        parse_config(json.dumps(own).encode())
    except TortieError as error:
        raise UsageError(f"no agent would take this configuration: {error}") from error
    if only_print:
        click.echo(json.dumps(configuration, indent=2))
        return
    for path in room.install(bin_dir=bin_dir, conf_dir=conf_dir, configuration=configuration):
        click.echo(f"wrote {path}")


@command.command()
@click.option("--bin-dir", type=click.Path(path_type=Path), default=BIN_DIR, show_default=True)
@click.option("--conf-dir", type=click.Path(path_type=Path), default=CONF_DIR, show_default=True)
def uninstall(bin_dir: Path, conf_dir: Path) -> None:
    """Remove both, the configuration first. Pods that run keep their network; they cannot be deleted without it."""
    from tortie.cni import install as room

    room.uninstall(bin_dir=bin_dir, conf_dir=conf_dir)
    click.echo(f"removed {conf_dir / room.CONFLIST} and {bin_dir / room.PLUGIN}")


def _section(text: str) -> object:
    try:
        section: object = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--ipam: is not JSON: {error}") from None
    if not isinstance(section, dict):
        raise UsageError("--ipam: is not a JSON object")
    return section  # pyright: ignore[reportUnknownVariableType]
