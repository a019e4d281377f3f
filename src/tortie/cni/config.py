"""The network configuration that a runtime passes on stdin: Calico's field names where Calico has the field.

Unknown fields are tolerated, since runtimes and chaining add theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from tortie.cni.errors import CNIError, Code
from tortie.cni.versions import SUPPORTED, SpecVersion

BUILT_IN_IPAM = frozenset({"", "calico-ipam", "tortie-ipam"})
DEFAULT_SOCKET = "/run/tortie/cni.sock"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")


class IPAMConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who assigns addresses, and from what. A ``type`` that is not built in names a plugin in CNI_PATH."""

    type: str = ""
    assign_ipv4: bool | str | None = None
    assign_ipv6: bool | str | None = None
    ipv4_pools: tuple[str, ...] = ()
    ipv6_pools: tuple[str, ...] = ()

    @property
    def is_built_in(self) -> bool:
        return self.type in BUILT_IN_IPAM

    @property
    def wants_ipv4(self) -> bool | None:
        """What the configuration says, or None when it leaves it to the pools."""
        return _flag(self.assign_ipv4)

    @property
    def wants_ipv6(self) -> bool | None:
        return _flag(self.assign_ipv6)


class ContainerSettings(msgspec.Struct, frozen=True, kw_only=True):
    allow_ip_forwarding: bool = False


class RuntimeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Capability arguments (https://www.cni.dev/docs/conventions/): addresses and a MAC that the runtime asks for."""

    ips: tuple[str, ...] = ()
    mac: str = ""


class Attachment(msgspec.Struct, frozen=True, rename="camel"):
    """One interface of one container, as GC lists what is still alive."""

    container_id: str = msgspec.field(name="containerID")
    ifname: str


class NetConf(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin's network configuration, validated. `previous` is an earlier result as JSON values; see `result.parse`."""

    cni_version: str = msgspec.field(name="cniVersion", default="")
    name: str = ""
    type: str = ""
    socket: str = DEFAULT_SOCKET
    mtu: int = 0
    """0: as the agent decides."""
    ipam: IPAMConfig = IPAMConfig()
    container_settings: ContainerSettings = ContainerSettings()
    policy_setup_timeout_seconds: float | None = None
    """How long an ADD waits for its endpoint to be real; None: as the agent decides."""
    log_level: str = ""
    runtime_config: RuntimeConfig = msgspec.field(name="runtimeConfig", default=RuntimeConfig())
    args: Mapping[str, Any] = {}
    previous: Mapping[str, Any] | None = msgspec.field(name="prevResult", default=None)
    valid_attachments: tuple[Attachment, ...] | None = msgspec.field(
        name="cni.dev/valid-attachments", default=None
    )
    attachments: tuple[Attachment, ...] | None = msgspec.field(name="cni.dev/attachments", default=None)

    @property
    def version(self) -> SpecVersion:
        return SpecVersion.parse(self.cni_version or "0.1.0")

    @property
    def alive(self) -> tuple[Attachment, ...] | None:
        """GC: what must stay. None when the runtime did not say, which must not be taken for "nothing"."""
        return self.valid_attachments if self.valid_attachments is not None else self.attachments


def parse_config(data: bytes) -> NetConf:
    """Read and check a configuration.

    Raises `CNIError`: 1 for a spec version we do not speak, 6 for what is no JSON, 7 for a bad field, by name.
    """
    try:
        document = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise CNIError(Code.INVALID_JSON, f"the network configuration is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise CNIError(Code.INVALID_JSON, "the network configuration is not a JSON object")
    try:
        config = msgspec.convert(document, NetConf)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        field = where.rstrip("`") or "network configuration"
        raise CNIError(Code.INVALID_CONFIG, f"{field}: {what}") from error
    _check(config)
    return config


def _check(config: NetConf) -> None:
    if str(config.version) not in SUPPORTED:
        speaks = ", ".join(SUPPORTED)
        raise CNIError(
            Code.INCOMPATIBLE_VERSION,
            f"cniVersion: {config.cni_version or '(missing)'} is not one of {speaks}",
        )
    if not _NAME.fullmatch(config.name):
        raise _bad(
            "name",
            config.name,
            "does not start with a letter or digit, or holds more than letters, digits and _ . -",
        )
    if not 0 <= config.mtu <= 65535 or 0 < config.mtu < 68:
        raise _bad("mtu", config.mtu, "is not 0 or between 68 and 65535")
    if config.policy_setup_timeout_seconds is not None and not 0 <= config.policy_setup_timeout_seconds <= 90:
        raise _bad(
            "policy_setup_timeout_seconds", config.policy_setup_timeout_seconds, "is not between 0 and 90"
        )
    if "/" in config.ipam.type or config.ipam.type in (".", ".."):
        raise _bad("ipam.type", config.ipam.type, "is not the name of a plugin")
    for name in ("assign_ipv4", "assign_ipv6"):
        value: bool | str | None = getattr(config.ipam, name)
        if isinstance(value, str) and value not in ("true", "false"):
            raise _bad(f"ipam.{name}", value, "is neither true nor false")


def _bad(field: str, value: object, rule: str) -> CNIError:
    return CNIError(Code.INVALID_CONFIG, f"{field}: {value} {rule}")


def _flag(value: bool | str | None) -> bool | None:
    return value == "true" if isinstance(value, str) else value
