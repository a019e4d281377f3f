"""The dataplane's sockets, all made in its thread and namespace."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from tortie.dataplane.linux.rules import names
from tortie.errors import DataplaneUnsupported, KernelError
from tortie.kernel.conntrack import ConntrackSocket
from tortie.kernel.monitor import RouteMonitor
from tortie.kernel.nft import NftSocket
from tortie.kernel.rtnetlink import RouteSocket
from tortie.net.addresses import Address


@dataclass(frozen=True, eq=False)
class KernelSockets:
    """One of each kind for the thread; ``rules_watch`` is for the event loop, ``counters`` for the second thread.

    ``conntrack`` is shared by both threads under a lock of the route driver, ``flows`` is the first one's own."""

    routes: RouteSocket
    nft: NftSocket
    rules_watch: NftSocket
    counters: NftSocket
    conntrack: ConntrackSocket
    flows: ConntrackSocket
    monitor: RouteMonitor

    @staticmethod
    def open() -> KernelSockets:
        """Raises `DataplaneUnsupported`, `KernelError`."""
        try:
            nft = NftSocket(table=names.TABLE)
            nft.generation()
            monitor = RouteMonitor(addresses=True, switches=True)
            watch, counters = NftSocket(table=names.TABLE), NftSocket(table=names.TABLE)
            return KernelSockets(
                RouteSocket(), nft, watch, counters, ConntrackSocket(), ConntrackSocket(), monitor
            )
        except KernelError as error:
            if error.errno in (errno.EPERM, errno.EACCES):
                raise DataplaneUnsupported(
                    "the agent may not change the network", "run it as root, with CAP_NET_ADMIN"
                ) from error
            if error.errno in (errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP):
                raise DataplaneUnsupported(
                    "this kernel has no nf_tables", "load the module nf_tables"
                ) from error
            raise

    def addresses(self) -> dict[str, frozenset[Address]]:
        """What every interface carries, by its name."""
        found: dict[str, set[Address]] = {}
        interfaces = self.routes.names()
        for address in self.routes.addresses():
            name = interfaces.get(address.index)
            if name is not None:
                found.setdefault(name, set()).add(address.interface.address)
        return {name: frozenset(carried) for name, carried in found.items()}

    def close(self) -> None:
        for socket in (
            self.routes,
            self.nft,
            self.rules_watch,
            self.counters,
            self.conntrack,
            self.flows,
            self.monitor,
        ):
            socket.close()
