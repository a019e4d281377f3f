"""IP sets that rules refer to: what should be in them, and their ids, which are Calico's."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from tortie.desired.ipsets import IPSetRow
from tortie.selector import Selector

TCP, UDP, SCTP = 6, 17, 132
PORT_PROTOCOLS = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}
"""Protocols with ports that policies can name."""


@dataclass(frozen=True)
class SelectorSet:
    """The addresses of all endpoints and network sets that a selector matches."""

    selector: Selector

    @property
    def id(self) -> str:
        return self.selector.unique_id

    @property
    def row(self) -> IPSetRow:
        return IPSetRow(meaning=str(self.selector))


@dataclass(frozen=True)
class NamedPortSet:
    """The ports of that name and protocol of all endpoints that a selector matches."""

    selector: Selector
    protocol: int
    port: str

    @property
    def id(self) -> str:
        return _unique_id("n", f"{self.selector.unique_id},{PORT_PROTOCOLS[self.protocol]},{self.port}")

    @property
    def row(self) -> IPSetRow:
        meaning = f"port {self.port} ({PORT_PROTOCOLS[self.protocol]}) of {self.selector}"
        return IPSetRow(holds="ports", meaning=meaning)


@dataclass(frozen=True)
class ServiceSet:
    """What stands behind a service: addresses, or addresses with their ports."""

    namespace: str
    name: str
    with_ports: bool

    @property
    def id(self) -> str:
        return _unique_id("svc" if self.with_ports else "svcnoport", f"{self.namespace}/{self.name}")

    @property
    def row(self) -> IPSetRow:
        meaning = f"service {self.namespace}/{self.name}"
        return IPSetRow(holds="ports" if self.with_ports else "prefixes", meaning=meaning)


SetDefinition = SelectorSet | NamedPortSet | ServiceSet


def _unique_id(prefix: str, content: str) -> str:
    digest = hashlib.sha224(f"{prefix}:{content}".encode()).digest()
    return f"{prefix}:{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
