"""What every tracked file keeps to: size, docstrings, nothing unfinished, nothing of the machine it was written on."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAX_LINES = 500


@cache
def tracked() -> tuple[Path, ...]:
    """The files that git tracks here; all but hidden ones where this is no clone."""
    done = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        paths = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        paths = [
            path
            for path in ROOT.rglob("*")
            if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        ]
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


def python() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and not re.search(r"_pb2(_grpc)?$", path.stem)]


def texts() -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    for path in tracked():
        try:
            found.append((path.relative_to(ROOT), path.read_text()))
        except UnicodeDecodeError:
            continue
    return found


def lines_with(pattern: str, files: list[tuple[Path, str]]) -> list[str]:
    finder = re.compile(pattern)
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path, text in files
        for number, line in enumerate(text.splitlines(), 1)
        if finder.search(line)
    ]


def test_no_file_is_longer_than_a_room() -> None:
    code = [*python(), *(path for path in tracked() if path.suffix in (".c", ".h"))]
    assert code
    long = {
        str(path.relative_to(ROOT)): n
        for path in code
        if (n := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert not long


def test_every_module_says_what_it_is_for() -> None:
    modules = [path for path in python() if (ROOT / "src") in path.parents]
    silent = [
        str(path.relative_to(ROOT)) for path in modules if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_every_folder_of_the_package_is_a_package() -> None:
    folders = {path.parent for path in python() if (ROOT / "src") in path.parents}
    assert not [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()]


def test_nothing_is_unfinished_and_no_test_is_skipped() -> None:
    words = ["TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error"]
    words += [
        r"pytest\.sk" + r"ip\(",
        r"mark\.(sk" + "ip|xf" + "ail)",
    ]  # in pieces: this file is looked through, too
    code = [(path, text) for path, text in texts() if path.parts[0] in ("src", "tests", "native", "tools")]
    assert not lines_with("|".join(words), code)


def test_no_address_of_a_registry() -> None:
    """Whichever pip, npm and apt are configured for here, and pip's defaults: none belongs into the repository."""
    code = (
        "from pip._internal.models.index import PyPI; print(PyPI.url, 'https://' + PyPI.file_storage_domain)"
    )
    said = ""
    for command in ([sys.executable, "-c", code], [sys.executable, "-m", "pip", "config", "list"]):
        said += subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for listing in (
        Path("/etc/apt/sources.list"),
        *Path("/etc/apt/sources.list.d").glob("*"),
        Path.home() / ".npmrc",
    ):
        if listing.is_file():
            said += listing.read_text()
    hosts = {match.split("@")[-1].split(":")[0] for match in re.findall(r"https?://([^/\s\"']+)", said)}
    assert hosts
    assert not lines_with("|".join(re.escape(host) for host in sorted(hosts)), texts())


def test_no_path_of_one_machine() -> None:
    assert not lines_with(
        r"(?<![\w.])/(?:home|Users|work|farm)/\w", [item for item in texts() if item[0].suffix != ".svg"]
    )
