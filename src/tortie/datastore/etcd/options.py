"""How an etcd cluster is reached."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class EtcdOptions:
    """``endpoints`` are ``host:port`` in the order in which they are tried; TLS is used when one of the three files is
    named or ``tls`` is set. Times are seconds."""

    endpoints: tuple[str, ...]
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    request_seconds: float = 5.0
    probe_seconds: float = 2.0
    silence_seconds: float = 6.0
    """A watch that hears nothing for so long, not even an answer to a progress request, is taken for dead."""

    @property
    def secure(self) -> bool:
        return self.tls or bool(self.ca_file or self.cert_file or self.key_file)
