from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tortie.agent import process
from tortie.agent.process import OnlyAgent
from tortie.errors import UsageError

_HOLDER = """
import sys, pathlib
from tortie.agent import process
process.ABSTRACT_NAME = sys.argv[2]
with process.OnlyAgent(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_name(monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"\0tortie/test-{os.getpid()}"
    monkeypatch.setattr(process, "ABSTRACT_NAME", name)
    return name


def hold(path: Path, name: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", _HOLDER.replace("sys.argv[2]", repr(name)), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_second_agent_is_told_who_holds_the_node(tmp_path: Path, own_name: str) -> None:
    child = hold(tmp_path / "lock", own_name)
    try:
        with pytest.raises(
            UsageError, match=f"another agent, pid {child.pid}, runs on this node: it holds .*lock"
        ):
            OnlyAgent(tmp_path / "lock").__enter__()
    finally:
        child.kill()
        child.communicate()
    with OnlyAgent(tmp_path / "lock"):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_another_run_directory_does_not_hide_the_first_agent(tmp_path: Path, own_name: str) -> None:
    child = hold(tmp_path / "lock", own_name)
    try:
        with pytest.raises(
            UsageError, match=f"another agent, pid {child.pid}, runs in this network namespace"
        ):
            OnlyAgent(tmp_path / "other").__enter__()
    finally:
        child.kill()
        child.communicate()


def test_the_node_is_free_after_a_clean_end(tmp_path: Path) -> None:
    for _ in range(2):
        with OnlyAgent(tmp_path / "lock"):
            pass
