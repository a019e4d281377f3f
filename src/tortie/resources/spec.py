"""What all specs share: their base class and how Python names become Calico's JSON names."""

from __future__ import annotations

from typing import Any

import msgspec

_CAPITALS = {
    "as": "AS",
    "bgp": "BGP",
    "bpf": "BPF",
    "cidr": "CIDR",
    "cidrs": "CIDRs",
    "dnat": "DNAT",
    "guid": "GUID",
    "id": "ID",
    "ip": "IP",
    "ips": "IPs",
    "ipip": "IPIP",
    "ipv4": "IPv4",
    "ipv6": "IPv6",
    "mac": "MAC",
    "mtu": "MTU",
    "nats": "NATs",
    "vni": "VNI",
    "vxlan": "VXLAN",
}
"""Words that Calico writes in capitals when they do not begin a name."""


def json_name(name: str) -> str:
    """``disable_bgp_export`` → ``disableBGPExport``, ``reserved_cidrs`` → ``reservedCIDRs``."""
    first, *rest = name.split("_")
    return first + "".join(_CAPITALS.get(word) or word.capitalize() for word in rest)


class Spec(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename=json_name,
    forbid_unknown_fields=True,  # so that one pass tells whether there are any; `codec` then keeps them
):
    """A spec or a part of one. Strings stay strings: CIDRs and addresses are parsed where they are used.

    A field that is at its default is not written, unless it was declared with `written`.
    """


def written(value: Any) -> Any:
    """A default that is written all the same, as Calico does for this field."""
    # msgspec leaves out what equals a plain default, but not what a factory made.
    return msgspec.field(default_factory=lambda: value)
