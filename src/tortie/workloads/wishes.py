"""What a pod asks of its network beyond "an address": annotations, CNI arguments and configuration, in order of weight.

The pod's annotations weigh most, then its namespace's, then the runtime's (``runtimeConfig``, ``args.cni``, CNI_ARGS), then
the configuration. Source: Calico's annotations ``cni.projectcalico.org/…`` and https://www.cni.dev/docs/conventions/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from tortie.cni.config import NetConf
from tortie.cni.request import Arguments
from tortie.errors import InvalidResource
from tortie.net.addresses import Address, Prefix

T = TypeVar("T")

PREFIX = "cni.projectcalico.org/"
_REFUSED = ("ipAddrsNoIpam", "floatingIPs")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class _ConventionalCNI(msgspec.Struct):
    ips: tuple[str, ...] = ()


class _ConventionalArgs(msgspec.Struct):
    cni: _ConventionalCNI = msgspec.field(default_factory=_ConventionalCNI)


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """``addresses`` are to be had exactly, at most one a family, and none else then. A family that is None is given when
    there is a pool of it."""

    addresses: tuple[Address, ...] = ()
    ipv4: bool | None = None
    ipv6: bool | None = None
    ipv4_pools: tuple[str, ...] = ()
    ipv6_pools: tuple[str, ...] = ()
    mac: str = ""
    allowed_sources: tuple[Prefix, ...] = ()


def read_wishes(
    config: NetConf,
    arguments: Arguments,
    *,
    pod: Mapping[str, str],
    namespace: Mapping[str, str],
) -> Wishes:
    """``pod`` and ``namespace`` are their annotations. Raises `InvalidResource`, naming annotation or argument."""
    for name in _REFUSED:
        if PREFIX + name in pod:
            rule = "is not supported: it would take an address past IPAM"
            raise InvalidResource(_field(PREFIX + name), pod[PREFIX + name], rule)
    families = _annotation(pod, "ipFamilies", _family) or _annotation(namespace, "ipFamilies", _family)
    return Wishes(
        addresses=_addresses(config, arguments, pod),
        ipv4=4 in families if families else config.ipam.wants_ipv4,
        ipv6=6 in families if families else config.ipam.wants_ipv6,
        ipv4_pools=_pools("ipv4pools", pod, namespace) or config.ipam.ipv4_pools,
        ipv6_pools=_pools("ipv6pools", pod, namespace) or config.ipam.ipv6_pools,
        mac=_mac(config, arguments, pod),
        allowed_sources=_annotation(pod, "allowedSourcePrefixes", _prefix),
    )


def _addresses(config: NetConf, arguments: Arguments, pod: Mapping[str, str]) -> tuple[Address, ...]:
    where = _field(PREFIX + "ipAddrs")
    wanted = _annotation(pod, "ipAddrs", _address)
    if not wanted:
        where = "runtimeConfig.ips"
        wanted = tuple(_parse(where, text, _address) for text in config.runtime_config.ips)
    if not wanted:
        where = "args.cni.ips"
        wanted = tuple(_parse(where, text, _address) for text in _conventional_ips(config.args))
    if not wanted and arguments.ip:
        where = "CNI_ARGS IP"
        wanted = (_parse(where, arguments.ip, _address),)
    versions = [address.version for address in wanted]
    if len(set(versions)) < len(versions):
        shown = ", ".join(map(str, wanted))
        raise InvalidResource(where, shown, "holds more than one address of a family; a pod gets one of each")
    return wanted


def _conventional_ips(args: Mapping[str, Any]) -> tuple[str, ...]:
    try:
        return msgspec.convert(args, _ConventionalArgs).cni.ips
    except msgspec.ValidationError as error:
        raise InvalidResource("args.cni", None, f"cannot be taken: {error}") from None


def _mac(config: NetConf, arguments: Arguments, pod: Mapping[str, str]) -> str:
    name = PREFIX + "hwAddr"
    for where, text in (
        (_field(name), pod.get(name, "")),
        ("runtimeConfig.mac", config.runtime_config.mac),
        ("CNI_ARGS MAC", arguments.mac),
    ):
        if not text:
            continue
        mac = text.lower().replace("-", ":")
        if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
            raise InvalidResource(where, text, "is not the MAC address of one interface")
        return mac
    return ""


def _pools(name: str, pod: Mapping[str, str], namespace: Mapping[str, str]) -> tuple[str, ...]:
    return _annotation(pod, name, str) or _annotation(namespace, name, str)


def _annotation(annotations: Mapping[str, str], name: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    """Calico writes lists as JSON inside an annotation: ``'["10.65.0.9"]'``."""
    key = PREFIX + name
    text = annotations.get(key, "")
    if not text.strip():
        return ()
    try:
        items = msgspec.json.decode(text, type=list[str])
    except msgspec.MsgspecError:
        raise InvalidResource(_field(key), text, 'is not a JSON list of strings, such as ["…"]') from None
    return tuple(_parse(_field(key), item, parse) for item in items)


def _parse(where: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidResource(where, text, f"cannot be taken: {error}") from None


def _address(text: str) -> Address:
    return Address.parse(text.partition("/")[0])


def _prefix(text: str) -> Prefix:
    return Prefix.parse(text, strict=False)


def _family(text: str) -> int:
    number = {"ipv4": 4, "ipv6": 6}.get(text.lower())
    if number is None:
        raise ValueError("a family is ipv4 or ipv6")
    return number


def _field(annotation: str) -> str:
    return f"metadata.annotations[{annotation}]"
