"""A file for each local endpoint that is real, for who waits on this machine for a pod's network.

As Felix does where FelixConfiguration has ``endpointStatusPathPrefix``: ``<prefix>/endpoint-status/k8s default%2Fweb eth0``
holds interface, MAC and addresses. A file stands while its endpoint is programmed; one that nobody wants is removed,
but not before the first in-sync.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from tortie.desired.endpoints import EndpointKey, EndpointRow
from tortie.errors import KernelError


class _Content(msgspec.Struct, rename="camel", omit_defaults=True):
    iface_name: str = ""
    mac: str = ""
    ipv4_nets: list[str] = []
    ipv6_nets: list[str] = []


class StatusFiles:
    """Keeps the directory in line. Files that are right already are left alone, also after a restart."""

    def __init__(self, prefix: Path) -> None:
        self.directory = prefix / "endpoint-status"

    def start(self, real: Mapping[EndpointKey, EndpointRow]) -> None:
        """The first in-sync: write what is missing or different, remove what nobody wants. Raises `KernelError`."""
        wanted = {file_name(key): content(row) for key, row in real.items()}
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            for path in self.directory.iterdir():
                if path.name not in wanted:
                    path.unlink(missing_ok=True)
                elif path.read_bytes() == wanted[path.name]:
                    del wanted[path.name]
        except OSError as error:
            raise KernelError(error.errno or 5, "keep status files in", str(self.directory)) from None
        for name, text in wanted.items():
            self._write(name, text)

    def update(self, real: Mapping[EndpointKey, EndpointRow], not_real: Iterable[EndpointKey]) -> None:
        """These became real, those ceased to be. Raises `KernelError`."""
        for key in not_real:
            try:
                (self.directory / file_name(key)).unlink(missing_ok=True)
            except OSError as error:
                raise KernelError(error.errno or 5, "remove the status file of", str(key)) from None
        for key, row in real.items():
            self._write(file_name(key), content(row))

    def _write(self, name: str, text: bytes) -> None:
        path = self.directory / name
        draft = self.directory / f".{name}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(text)
            draft.replace(path)
        except OSError as error:
            raise KernelError(error.errno or 5, "write the status file", str(path)) from None


def content(row: EndpointRow) -> bytes:
    """What a file holds."""
    nets = [str(address.prefix) for address in row.addresses]
    return msgspec.json.encode(
        _Content(
            iface_name=row.interface,
            mac=row.mac,
            ipv4_nets=[net for net in nets if ":" not in net],
            ipv6_nets=[net for net in nets if ":" in net],
        )
    )


def file_name(key: EndpointKey) -> str:
    """``k8s default%2Fweb eth0``: orchestrator, workload and endpoint, each with its odd characters escaped."""
    parts = split_name(key.name)
    if len(parts) != 4:
        return quote(f"{key.namespace}/{key.name}", safe="")
    _, orchestrator, workload, endpoint = parts
    workload = f"{key.namespace}/{workload}" if orchestrator == "k8s" else workload
    return " ".join(quote(part, safe="$&+:=@~") for part in (orchestrator, workload, endpoint))


def split_name(name: str) -> list[str]:
    """The parts of an endpoint's name; a doubled dash inside a part is one dash."""
    parts, current, position = list[str](), "", 0
    while position < len(name):
        if name.startswith("--", position):
            current += "-"
            position += 2
        elif name[position] == "-":
            parts.append(current)
            current = ""
            position += 1
        else:
            current += name[position]
            position += 1
    return [*parts, current]
