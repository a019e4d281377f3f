from __future__ import annotations

import json
from typing import Any

import pytest

from tortie.agent.status import dump, plain, tables
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.ipsets import IPSETS, MEMBERS, PRESENT, IPSetRow, Member
from tortie.errors import UsageError
from tortie.net.addresses import Address, Prefix

ROW = EndpointRow(interface="cali1", addresses=(Address.parse("10.65.0.2"), Address.parse("fd00::2")))
DESIRED: dict[str, dict[Any, Any]] = {
    ENDPOINTS.name: {EndpointKey("default", "web"): ROW},
    IPSETS.name: {"pools": IPSetRow()},
    MEMBERS.name: {Member("pools", Prefix.parse("10.1.0.0/16")): PRESENT},
}


def test_rows_are_shown_as_json_holds_them() -> None:
    shown = dump(DESIRED, "endpoints")
    assert shown[0]["key"] == "default/web"
    assert shown[0]["row"]["addresses"] == ["10.65.0.2", "fd00::2"]
    assert dump(DESIRED, "ipsets")[0] == {"key": "pools", "row": {"holds": "prefixes", "meaning": ""}}
    assert dump(DESIRED, "members") == [{"key": "pools 10.1.0.0/16", "row": True}]
    json.dumps(shown)


def test_every_table_is_counted_also_an_empty_one() -> None:
    assert {"table": "routes", "rows": 0} in tables(DESIRED)
    assert {"table": "endpoints", "rows": 1} in tables(DESIRED)
    assert dump(DESIRED, "routes") == []


def test_an_unknown_table_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="there is no table 'nonsense'; there is settings, ipsets"):
        dump(DESIRED, "nonsense")


def test_anything_else_is_text() -> None:
    assert plain({"a": (1, None, ValueError("x"))}) == {"a": [1, None, "x"]}
