"""Puts the shim and a network configuration where a container runtime looks, each in one atomic step."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from tortie.cni.config import DEFAULT_SOCKET
from tortie.cni.versions import INSTALLED
from tortie.errors import DataplaneUnsupported

PLUGIN = "tortie"
CONFLIST = "10-tortie.conflist"


def shim() -> Path:
    """The shim that was built with this package. Raises `DataplaneUnsupported` when there is none."""
    path = Path(str(resources.files("tortie.cni"))) / "bin" / "tortie-cni"
    if not path.is_file():
        raise DataplaneUnsupported(f"the CNI shim {path} was not built", "run: make setup")
    return path


def conflist(
    *,
    network: str = "tortie",
    socket: str = DEFAULT_SOCKET,
    mtu: int = 0,
    chained: tuple[str, ...] = ("portmap", "bandwidth"),
    version: str = INSTALLED,
    plugin: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A configuration list: Tortie, then the ``chained`` plugins. ``plugin`` adds to or overrides Tortie's own fields."""
    own: dict[str, Any] = {"type": PLUGIN, "socket": socket, "ipam": {"type": "tortie-ipam"}}
    if mtu:
        own["mtu"] = mtu
    own.update(plugin or {})
    own["capabilities"] = {"ips": True, "mac": True}
    others: list[dict[str, Any]] = []
    for name in chained:
        capability = {"portmap": "portMappings", "bandwidth": "bandwidth"}.get(name)
        others.append({"type": name} | ({"capabilities": {capability: True}} if capability else {}))
    return {"cniVersion": version, "name": network, "plugins": [own, *others]}


def install(
    *, bin_dir: Path, conf_dir: Path, configuration: dict[str, Any] | None = None
) -> tuple[Path, Path]:
    """Write shim and configuration, the shim first, so that no runtime finds a configuration without its plugin.

    Both directories are made where they are missing. Returns the two paths. Raises `OSError`.
    """
    program = bin_dir / PLUGIN
    listed = conf_dir / CONFLIST
    with _replacing(program, 0o755) as out:
        out.write_bytes(shim().read_bytes())
    with _replacing(listed, 0o600) as out:
        out.write_text(json.dumps(configuration or conflist(), indent=2) + "\n")
    return program, listed


def uninstall(*, bin_dir: Path, conf_dir: Path) -> None:
    """Remove both, the configuration first. What is not there is no error."""
    (conf_dir / CONFLIST).unlink(missing_ok=True)
    (bin_dir / PLUGIN).unlink(missing_ok=True)


@contextmanager
def _replacing(target: Path, mode: int) -> Iterator[Path]:
    """A file beside ``target`` that takes its place, flushed to the disk, once it is written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # A leading dot and an ending that is no .conf: a runtime that looks at the folder now does not take it up.
    scratch = target.parent / f".{target.name}.{os.getpid()}.new"
    try:
        yield scratch
        scratch.chmod(mode)
        descriptor = os.open(scratch, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
