"""Every tutorial's commands, typed one after the other, print what the tutorial says.

In a ```console block a line ``$ COMMAND`` is typed; what follows until the next one is what it prints. ``…`` stands for any text
within a line, a line of ``…`` alone for any lines.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.lab.lab_command import LabCommand

pytestmark = pytest.mark.needs("netns", "bird")

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
END = "-- end of output, exit code:"


class Step(NamedTuple):
    """One command of a tutorial and what it should print; ``line`` is where it stands."""

    line: int
    command: str
    output: str


def steps(text: str) -> Iterator[Step]:
    number, inside, command, begun, output = 0, False, "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("```"):
            if command:
                yield Step(begun, command, "\n".join(output))
            inside, command, output = line == "```console", "", []
        elif inside and line.startswith("$ "):
            if command:
                yield Step(begun, command, "\n".join(output))
            command, begun, output = line[2:], number, []
        elif inside:
            output.append(line)


def pattern(expected: str) -> re.Pattern[str]:
    """What the output must match as a whole, both with `even` spaces."""
    lines = even(expected).splitlines()
    return re.compile("".join(r"(?:.*\n)*?" if line == "…" else f"{_wild(line)}\n" for line in lines))


def _wild(line: str) -> str:
    return ".*?".join(map(re.escape, line.split("…")))


def even(text: str) -> str:
    """One space for any run of them, none at a line's end, no empty lines around: columns shift with what is in them."""
    lines = [re.sub(r"[ \t]+", " ", line).rstrip() for line in text.strip().splitlines()]
    return "".join(f"{line}\n" for line in lines)


class Shell:
    """One bash for a whole tutorial, so that exports last."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def run(self, command: str) -> str:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f'{command} </dev/null\necho "\n{END} $?"\n')
        self._bash.stdin.flush()
        lines: list[str] = []
        for line in self._bash.stdout:
            if line.startswith(END):
                break
            lines.append(line)
        return "".join(lines)

    def close(self) -> None:
        self._bash.kill()
        self._bash.communicate()


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_prints_what_it_says(tutorial: Path, unique_name: Callable[[], str]) -> None:
    name = unique_name()
    shell = Shell({**os.environ, "TORTIE_LAB": name, "MAKEFLAGS": "", "TERM": "dumb"})
    try:
        for step in steps(tutorial.read_text()):
            printed = shell.run(step.command).replace(name, "tortie")
            where = f"{tutorial.name}:{step.line}: {step.command}"
            assert pattern(step.output).fullmatch(even(printed)), (
                f"{where} printed\n{printed}\ninstead of\n{step.output}"
            )
    finally:
        shell.close()
        LabCommand(name).run("lab", "down", check=False)


def test_every_tutorial_has_commands() -> None:
    assert TUTORIALS
    for tutorial in TUTORIALS:
        assert len(list(steps(tutorial.read_text()))) > 3, tutorial.name
