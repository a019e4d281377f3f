"""IP sets as they are asked: whether an address, or an address with a port, is in them."""

from __future__ import annotations

from tortie.desired.ipsets import Member
from tortie.net.addresses import BITS, Address, Prefix


class MemberIndex:
    """One set. A question costs one look-up for single addresses and one for each prefix length that occurs."""

    def __init__(self) -> None:
        self.singles: set[Address] = set()
        self.ports: set[tuple[Address, int, int]] = set()
        self._nets: dict[tuple[int, int], set[int]] = {}
        """The first addresses of prefixes, by version and length."""

    def add(self, member: Member) -> None:
        prefix = member.prefix
        if member.port:
            self.ports.add((prefix.address, member.protocol, member.port))
        elif prefix.is_single:
            self.singles.add(prefix.address)
        else:
            self._nets.setdefault((prefix.version, prefix.length), set()).add(prefix.value)

    def discard(self, member: Member) -> None:
        prefix = member.prefix
        if member.port:
            self.ports.discard((prefix.address, member.protocol, member.port))
        elif prefix.is_single:
            self.singles.discard(prefix.address)
        elif found := self._nets.get((prefix.version, prefix.length)):
            found.discard(prefix.value)
            if not found:
                del self._nets[prefix.version, prefix.length]

    def holds(self, address: Address) -> bool:
        if address in self.singles:
            return True
        for (version, length), values in self._nets.items():
            if version == address.version:
                host_bits = BITS[version] - length
                if address.value >> host_bits << host_bits in values:
                    return True
        return False

    def holds_port(self, address: Address, protocol: int, port: int | None) -> bool:
        return port is not None and (address, protocol, port) in self.ports

    def contents(self) -> object:
        """Equal for sets that hold the same members."""
        return self.singles, self.ports, self._nets

    def prefixes(self) -> list[Prefix]:
        """Those of more than one address."""
        return [
            Prefix(4 if version == 4 else 6, value, length)
            for (version, length), values in self._nets.items()
            for value in values
        ]


NO_MEMBERS = MemberIndex()
"""What is asked of a set that does not exist."""
