"""Every row prints itself: tables for people; json, yaml, wide and name for machines.

A `Column` says how one field of a row reads; `render` turns rows and columns into text. Commands that print data go through
here, so that ``-o`` means the same everywhere. Pure: it returns text and writes nothing.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

RowT = TypeVar("RowT")

FORMATS = ("table", "wide", "json", "yaml", "name")
"""What ``-o`` takes. ``ps`` is Calico's word for ``table``."""

GAP = "   "


@dataclass(frozen=True)
class Column(Generic[RowT]):
    """A heading and how a row's cell is read. ``wide`` columns stand only in the wide table, ``narrow`` only in the other."""

    heading: str
    cell: Callable[[RowT], object]
    wide: bool = False
    narrow: bool = False


def text_of(value: object) -> str:
    """A cell as people read it: lists joined by commas, booleans in lower case, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(text_of(item) for item in cast("Iterable[object]", value))
    return str(value)


def table(rows: Iterable[RowT], columns: Sequence[Column[Any]], *, wide: bool = False) -> str:
    """Aligned columns under their headings, ending in a newline; the headings alone when there are no rows."""
    shown = [c for c in columns if (wide and not c.narrow) or (not wide and not c.wide)]
    lines = [[c.heading for c in shown]]
    lines += [[text_of(c.cell(row)) for c in shown] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(shown))]
    return "".join(
        GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def framed(rows: Iterable[RowT], columns: Sequence[Column[Any]], *, wide: bool = False) -> str:
    """The same in a frame of lines, as ``calicoctl ipam show`` and ``node status`` draw theirs."""
    shown = [c for c in columns if (wide and not c.narrow) or (not wide and not c.wide)]
    lines = [[text_of(c.cell(row)) for c in shown] for row in rows]
    widths = [max([len(c.heading), *(len(line[i]) for line in lines)]) for i, c in enumerate(shown)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+\n"
    heading = "| " + " | ".join(c.heading.center(w) for c, w in zip(shown, widths, strict=True)) + " |\n"
    body = "".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |\n"
        for line in lines
    )
    return rule + heading + rule + body + (rule if lines else "")


def as_json(document: object) -> str:
    """JSON as people can read it, ending in a newline."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n"


def as_yaml(document: object) -> str:
    """YAML in block style with the keys in the order given."""
    from ruamel.yaml import YAML  # 40 ms of import, needed by few commands

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    out = io.StringIO()
    yaml.dump(document, out)  # pyright: ignore[reportUnknownMemberType]
    return out.getvalue()


def render(
    rows: Sequence[RowT],
    columns: Sequence[Column[Any]],
    *,
    form: str = "table",
    document: Callable[[], object],
    name: Callable[[RowT], str] | None = None,
) -> str:
    """The rows in the form that ``-o`` names.

    ``document`` makes the value that json and yaml print, built only when needed. ``name`` gives a row's own line for
    ``-o name``; without it the first column does.
    """
    if form == "json":
        return as_json(document())
    if form == "yaml":
        return as_yaml(document())
    if form == "name":
        return "".join((name(row) if name else text_of(columns[0].cell(row))) + "\n" for row in rows)
    return table(rows, columns, wide=form == "wide")
