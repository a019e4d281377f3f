"""A lab's name: what is none reaches nothing of anybody's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tortie.errors import UsageError
from tortie.kernel import netns
from tortie.lab import lab, state, topology

NO_NAMES = ("", "*", "?", "[a-z]", ".", "..", "../x", "/", "a/b", "A", "1a", "a b", "a" * 21, "a\n")


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], set[Path]]:
    """Files and namespaces of other labs, in a folder of the test's own; what is there now."""
    monkeypatch.setattr(topology, "ROOT", tmp_path / "labs")
    monkeypatch.setattr(netns, "DIRECTORY", tmp_path / "netns")
    for name in ("labs/theirs/lab.json", "labs/a/lab.json", "netns/theirs.node1", "netns/a.node1", "x/file"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return lambda: set(tmp_path.rglob("*"))


@pytest.mark.parametrize("name", NO_NAMES)
def test_down_of_what_is_no_name_removes_nothing(name: str, others: Callable[[], set[Path]]) -> None:
    before = others()
    with pytest.raises(UsageError, match="is no name for a lab"):
        asyncio.run(lab.down(name, lambda _: None))
    assert others() == before


@pytest.mark.parametrize("name", NO_NAMES)
def test_every_other_command_refuses_it_too(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for work in (state.load, state.exists, state.forget, topology.directory_of):
        with pytest.raises(UsageError, match="is no name for a lab"):
            work(name)
    with pytest.raises(UsageError, match="is no name for a lab"):
        topology.topology(name=name, nodes=1)


def test_without_root_no_lab_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    with pytest.raises(UsageError, match="needs root"):
        state.load("theirs")
