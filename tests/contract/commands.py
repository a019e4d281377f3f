"""Runs ``tortie``'s commands in this process, against one datastore."""

from __future__ import annotations

import asyncio
import json
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tortie.cli.main import run
from tortie.datastore.open import open_store
from tortie.datastore.store import Store

T = TypeVar("T")


def made_in(directory: Path) -> str:
    """The URL of an SQLite datastore with nothing in it."""
    path = directory / "t.db"
    path.touch()
    return f"sqlite://{path}"


class Ended:
    """What a command printed and returned."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def rows(self) -> list[list[str]]:
        return [line.split() for line in self.out.splitlines()]


class Commands:
    """Runs commands against one empty datastore, and looks into it behind their back."""

    def __init__(self, url: str, directory: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.url, self.directory, self.capture = url, directory, capture

    def __call__(self, *arguments: str, code: int = 0) -> Ended:
        self.capture.readouterr()
        ended = run(["--datastore", self.url, *arguments])
        captured = self.capture.readouterr()
        assert ended == code, captured.out + captured.err
        return Ended(ended, captured.out, captured.err)

    def file(self, text: str, name: str = "f.yaml") -> str:
        path = self.directory / name
        path.write_text(textwrap.dedent(text))
        return str(path)

    def apply(self, text: str, *more: str, code: int = 0) -> Ended:
        return self("apply", "-f", self.file(text), *more, code=code)

    def document(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("get", *words, "-o", "json").out)
        return found

    def store(self, work: Callable[[Store], Awaitable[T]]) -> T:
        async def inside() -> T:
            store = open_store(self.url)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(inside())
