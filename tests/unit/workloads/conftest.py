"""A datastore for tests of rooms above it: SQLite in a folder of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tortie.datastore.open import open_store
from tortie.datastore.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = open_store(f"sqlite://{tmp_path}/tortie.db")
    yield made
    await made.close()
