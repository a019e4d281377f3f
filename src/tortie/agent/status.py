"""What the agent shows of itself: rows of plain values for the admin socket."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from tortie.desired.bgp import BGP_NODE
from tortie.desired.order import ORDER
from tortie.errors import UsageError
from tortie.net.addresses import Address, Interface, Prefix

MOST_ROWS = 100_000


def plain(value: Any) -> Any:
    """The value as JSON holds it: rows as objects, addresses and named keys as text, sets sorted."""
    raw: Any = value
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Address | Prefix | Interface):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[Any, Any]", raw).items()}
    if isinstance(value, frozenset | set):
        return sorted((plain(item) for item in cast("frozenset[Any]", raw)), key=str)
    if isinstance(value, tuple | list):
        return [plain(item) for item in cast("tuple[Any, ...]", raw)]
    return str(value)


def tables(desired: Mapping[str, Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """Each table and how many rows it has."""
    return [{"table": table.name, "rows": len(desired.get(table.name, ()))} for table in ORDER]


def dump(desired: Mapping[str, Mapping[Any, Any]], name: str) -> list[dict[str, Any]]:
    """The rows of one table: ``{"key", "row"}``. Raises `UsageError` naming the tables there are."""
    if name not in {table.name for table in ORDER}:
        known = ", ".join(table.name for table in ORDER)
        raise UsageError(f"there is no table {name!r}; there is {known}")
    rows = desired.get(name, {})
    keyed = sorted(((str(key), row) for key, row in rows.items()), key=lambda item: item[0])
    return [{"key": key, "row": plain(row)} for key, row in keyed[:MOST_ROWS]]


def bgp_addresses(desired: Mapping[str, Mapping[Any, Any]]) -> list[str]:
    """The node's own addresses, as other nodes know it by BGP."""
    rows = desired.get(BGP_NODE.name, {}).values()
    return [str(address) for row in rows for address in (row.ipv4, row.ipv6) if address is not None]
