"""What ``--port`` means: a protocol, and a port or an ICMP type."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tortie.errors import UsageError
from tortie.verdict.packet import ICMP, ICMPV6, PROTOCOL_NAMES, SCTP, TCP, UDP, WITH_PORTS

PROTOCOLS = {name: number for number, name in PROTOCOL_NAMES.items()}
PORT_PROTOCOLS = {"tcp": TCP, "udp": UDP, "sctp": SCTP}
FORMS = "80/tcp, 53/udp, 5000/sctp, a port's name (http or dns/udp), icmp, icmp/TYPE[/CODE] or proto/NUMBER"
ECHO_REQUEST = {4: 8, 6: 128}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Port:
    """``number`` is None for a name that the destination must know, and where the protocol has no ports. For ICMP a ``type`` of
    None is an echo request of the IP version in question, and the protocol that version's."""

    protocol: int
    number: int | None = None
    name: str = ""
    type: int | None = None
    code: int | None = None

    def protocol_in(self, version: int) -> int:
        return (ICMP if version == 4 else ICMPV6) if self.is_echo else self.protocol

    @property
    def is_echo(self) -> bool:
        return self.protocol == ICMP and self.type is None

    def type_in(self, version: int) -> int | None:
        return ECHO_REQUEST[version] if self.is_echo else self.type

    @property
    def ip_version(self) -> int | None:
        """The only IP version that has such packets, where it is one."""
        if self.protocol == ICMPV6:
            return 6
        return 4 if self.protocol == ICMP and not self.is_echo else None

    @property
    def protocol_name(self) -> str:
        return PROTOCOL_NAMES.get(self.protocol, str(self.protocol))

    @property
    def carries_payload(self) -> bool:
        """Whether its first packet may be of any size: that of a connection is not."""
        return self.protocol not in (TCP, SCTP)

    @property
    def shown(self) -> int | str | None:
        """The port in JSON: a number, a name, or None."""
        return self.name or self.number

    def __str__(self) -> str:
        if self.protocol in (ICMP, ICMPV6):
            parts = [self.protocol_name, self.type, self.code]
            return "/".join(str(part) for part in parts if part is not None)
        if self.protocol not in WITH_PORTS:
            return f"proto/{self.protocol}"
        return f"{self.shown}/{self.protocol_name}"


def parse_port(text: str) -> Port:
    """Raises `UsageError`, which says what there is."""
    first, *rest = text.strip().lower().split("/") if text else [""]
    numbers = [int(part) for part in rest if part.isascii() and part.isdigit()]
    if first in ("icmp", "icmpv6", "icmp6"):
        protocol = ICMP if first == "icmp" else ICMPV6
        if len(rest) > 2 or len(numbers) != len(rest) or any(number > 255 for number in numbers):
            raise _wrong(text)
        if not numbers:
            return Port(protocol) if protocol == ICMP else Port(protocol, type=ECHO_REQUEST[6], code=0)
        return Port(protocol, type=numbers[0], code=numbers[1] if len(numbers) > 1 else 0)
    if first in ("proto", "protocol"):
        if len(rest) != 1 or len(numbers) != 1 or not 1 <= numbers[0] <= 255 or numbers[0] in WITH_PORTS:
            raise _wrong(text)
        return Port(numbers[0])
    protocol = _protocol(rest, text)
    if first.isascii() and first.isdigit():
        if not 1 <= int(first) <= 65535:
            raise _wrong(text)
        return Port(protocol, int(first))
    if first in PROTOCOLS or not _NAME.fullmatch(first):
        raise _wrong(text)
    return Port(protocol, name=text.strip().split("/")[0])


def _protocol(rest: list[str], text: str) -> int:
    if not rest:
        return TCP
    if len(rest) == 1 and rest[0] in PORT_PROTOCOLS:
        return PORT_PROTOCOLS[rest[0]]
    raise _wrong(text)


def _wrong(text: str) -> UsageError:
    return UsageError(f"--port {text!r} is none: write {FORMS}")
