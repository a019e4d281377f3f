"""The house rules of imports, as `lint-imports` checks them; and doors that an import alone does not show."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tortie"

DOORS = {
    "tasks are made by aio alone": (
        {"create_task"},
        ("aio", "testing"),
    ),
    "programs are started by kernel alone": (
        {
            "create_subprocess_exec",
            "create_subprocess_shell",
            "fork",
            "posix_spawn",
            "posix_spawnp",
            "system",
            "popen",
            "Popen",
        },
        ("kernel", "testing"),
    ),
    "netlink and namespaces are reached by kernel alone": (
        {"AF_NETLINK", "setns", "unshare"},
        ("kernel", "testing"),
    ),
}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, check=False)


def test_imports_keep_to_the_floors() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("folder", "line", "contract"),
    [
        ("net", "import tortie.ipam", "Floors"),
        ("desired", "import asyncio", "The core is pure"),
        ("ipam", "import subprocess", "The kernel's door"),
        ("lab", "import click", "One home a library"),
        ("newcomer", "", "Floors"),
    ],
)
def test_a_trespass_is_found(tmp_path: Path, folder: str, line: str, contract: str) -> None:
    """The same contracts over a copy of the house in which one module goes too far."""
    subprocess.run(["cp", "-r", SOURCE, tmp_path / "tortie"], check=True)
    (tmp_path / "tortie" / folder).mkdir(exist_ok=True)
    (tmp_path / "tortie" / folder / "__init__.py").touch()
    (tmp_path / "tortie" / folder / "trespass.py").write_text(line)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    verdicts = re.findall(r"(.*?) (KEPT|BROKEN)(?: \(\d+ ignored imports?\))?", " ".join(done.stdout.split()))
    assert any(contract in name for name, verdict in verdicts if verdict == "BROKEN"), done.stdout


@pytest.mark.parametrize("rule", DOORS)
def test_doors(rule: str) -> None:
    names, homes = DOORS[rule]
    found: list[str] = []
    for path in sorted(SOURCE.rglob("*.py")):
        if path.relative_to(SOURCE).parts[0] in homes:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not (
                isinstance(node, ast.Attribute) and node.attr in names and isinstance(node.value, ast.Name)
            ):
                continue
            if node.value.id in ("asyncio", "os", "socket", "subprocess", "loop"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.value.id}.{node.attr}")
    assert not found, f"{rule}:\n" + "\n".join(found)
