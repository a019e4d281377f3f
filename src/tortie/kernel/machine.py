"""What the machine's network looks like to itself: its interfaces with their addresses, and which of them leads where."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from tortie.host.links import Link, LinkAddress
from tortie.kernel.netns import Namespace
from tortie.kernel.rtnetlink import RouteSocket
from tortie.net.addresses import Address, Version

_ANY_PORT = 53


def interfaces(namespace: Namespace | None = None) -> Sequence[tuple[Link, Sequence[LinkAddress]]]:
    """Every interface with its addresses, in the kernel's order. Raises `KernelError`."""
    with RouteSocket(namespace) as routes:
        links = routes.links()
        addresses = routes.addresses()
    return [
        (link, [each for each in addresses if each.index == link.index]) for link in sorted(links, key=_index)
    ]


def _index(link: Link) -> int:
    return link.index


def source_towards(target: str, version: Version) -> Address | None:
    """The own address on the way to an address or a host's name: that of a connected UDP socket, which sends nothing.

    Resolving a name may take seconds. None when there is no such name or no way.
    """
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        found = socket.getaddrinfo(target, _ANY_PORT, family, socket.SOCK_DGRAM)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(found[0][4])
            name: str = probe.getsockname()[0]
    except OSError:
        return None
    return Address.parse(name.partition("%")[0])
