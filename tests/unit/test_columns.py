"""Rows as tables and for machines."""

from __future__ import annotations

import json

import pytest

from tortie.columns import Column, framed, render, table, text_of

ROWS: list[dict[str, object]] = [
    {"name": "a", "on": True, "list": ["x", "y"]},
    {"name": "longer", "on": False, "list": []},
]
COLUMNS = [
    Column[dict[str, object]]("NAME", lambda row: row["name"]),
    Column[dict[str, object]]("ON", lambda row: row["on"]),
    Column[dict[str, object]]("LIST", lambda row: row["list"], wide=True),
    Column[dict[str, object]]("SHORT", lambda row: "s", narrow=True),
]


def test_table() -> None:
    assert table(ROWS, COLUMNS) == "NAME     ON      SHORT\na        true    s\nlonger   false   s\n"
    assert table(ROWS, COLUMNS, wide=True) == "NAME     ON      LIST\na        true    x,y\nlonger   false\n"
    assert table([], COLUMNS) == "NAME   ON   SHORT\n"


def test_framed() -> None:
    assert framed(ROWS, COLUMNS[:2]).splitlines() == [
        "+--------+-------+",
        "|  NAME  |   ON  |",
        "+--------+-------+",
        "| a      | true  |",
        "| longer | false |",
        "+--------+-------+",
    ]
    assert len(framed([], COLUMNS).splitlines()) == 3


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (True, "true"), ((1, False), "1,false"), ("x", "x"), (0, "0")]
)
def test_text_of(value: object, text: str) -> None:
    assert text_of(value) == text


def test_render() -> None:
    def show(form: str) -> str:
        return render(ROWS, COLUMNS, form=form, document=lambda: {"b": 1, "a": ROWS})

    assert json.loads(show("json")) == {"b": 1, "a": ROWS}
    assert show("yaml").startswith("b: 1\na:\n- name: a\n")
    assert show("name") == "a\nlonger\n"
    assert show("wide") == table(ROWS, COLUMNS, wide=True)
    assert show("table") == table(ROWS, COLUMNS)
