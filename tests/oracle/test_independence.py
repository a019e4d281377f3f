"""The oracle knows Tortie only from outside: it shares no mistake with it."""

from __future__ import annotations

import ast
from pathlib import Path

HERE = Path(__file__).parent


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_it_imports_nothing_but_itself_and_the_standard_library() -> None:
    modules = [path for path in HERE.glob("*.py") if not path.name.startswith("test_")]
    assert len(modules) > 5
    strange = {
        f"{path.name}: {name}"
        for path in modules
        for name in imported(path)
        if name.startswith("tortie") or (name.startswith("tests") and not name.startswith("tests.oracle"))
    }
    assert not strange
