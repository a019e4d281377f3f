"""The frame: help without heavy imports, exit codes, and no traceback for users."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from tortie import errors
from tortie.cli import main
from tortie.cli.context import settings
from tortie.cli.exit_codes import EXIT_CODES, FAILED, exit_code

HEAVY = (
    "google.protobuf",
    "pyroute2",
    "rich",
    "ruamel",
    "msgspec",
    "prometheus_client",
    "structlog",
    "sqlite3",
    "asyncio",
)
TORTIE = Path(sys.executable).parent / "tortie"


def every_error() -> list[type[errors.TortieError]]:
    found: list[type[errors.TortieError]] = [errors.TortieError]
    for each in found:
        found.extend(each.__subclasses__())
    return [each for each in found if each.__module__ == "tortie.errors"]


def test_the_table_has_every_error() -> None:
    assert set(EXIT_CODES) == set(every_error())
    assert all(0 < code < 70 for code in EXIT_CODES.values())


def test_an_error_of_another_room_has_the_code_of_what_it_is() -> None:
    class Lost(errors.NotFound): ...

    class Odd(errors.TortieError): ...

    assert exit_code(Lost("x")) == EXIT_CODES[errors.NotFound]
    assert exit_code(Odd()) == FAILED


def test_the_page_of_exit_codes_is_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/exit-codes.md").read_text()
    for error, code in EXIT_CODES.items():
        assert any(
            f"`{error.__name__}`" in line and line.startswith(f"| {code} ") for line in page.splitlines()
        ), error


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Runs a command that fails so."""

    def run(error: BaseException) -> int:
        @click.command()
        def command() -> None:
            raise error

        monkeypatch.setattr(main.cli, "get_command", lambda _ctx, _name: command)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
        return main.run(["fail"])

    return run


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.NotFound("IPPool a"), 4, "error: IPPool a does not exist\n"),
        (errors.UsageError("what?"), 2, "error: what?\n"),
        (
            ExceptionGroup("x", [ExceptionGroup("y", [errors.Conflict("a"), errors.Conflict("b")])]),
            6,
            "error: a was changed by someone else meanwhile\nerror: b was changed by someone else meanwhile\n",
        ),
        (
            FileNotFoundError(2, "No such file or directory", "/x"),
            1,
            "error: /x: No such file or directory\n",
        ),
        (KeyboardInterrupt(), 130, "\n"),
        (click.Abort(), 130, ""),
        (SystemExit(7), 7, ""),
        (
            ZeroDivisionError("zero"),
            70,
            "error: unforeseen: ZeroDivisionError: zero; this is a defect of Tortie, TORTIE_TRACEBACK=1 shows where\n",
        ),
    ],
)
def test_what_a_failure_prints(
    failing: Callable[[BaseException], int],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    text: str,
) -> None:
    assert failing(error) == code
    assert capsys.readouterr().err == text


def test_a_traceback_for_those_who_ask(
    failing: Callable[[BaseException], int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORTIE_TRACEBACK", "1")
    assert failing(ZeroDivisionError("zero")) == 70
    assert "Traceback" in capsys.readouterr().err


def test_a_note_is_shown(failing: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.Conflict("a")
    error.add_note("1 of 2 resources were written before this")
    failing(error)
    assert capsys.readouterr().err.endswith("note: 1 of 2 resources were written before this\n")


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["bogus"]) == 2
    assert "No such command 'bogus'" in capsys.readouterr().err


def test_every_command_of_the_table_is_there() -> None:
    context = click.Context(main.cli)
    for name in main.COMMANDS:
        command = main.cli.get_command(context, name)
        assert command is not None, name
        assert command.help, name
        assert main.run([name, "--help"]) == 0, name


@pytest.mark.parametrize("before", [True, False])
def test_global_options_before_and_behind_the_command(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    @click.command()
    def command() -> None:
        seen.append(settings().datastore)

    from tortie.cli.context import take_global_options

    take_global_options(command)
    monkeypatch.setattr(main.cli, "get_command", lambda _ctx, _name: command)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    url = ["--datastore", "sqlite:///x.db"]
    assert main.run([*url, "x"] if before else ["x", *url]) == 0
    assert seen == ["sqlite:///x.db"]


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from tortie.cli.main import run; code = run(['--help']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stderr == "[]\n"
    assert "apply " in ended.stdout


def test_a_reader_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([TORTIE, "version"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_an_argument_that_is_no_text_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "t.db").touch()
    done = subprocess.run(
        [str(TORTIE), "--datastore", f"sqlite://{tmp_path}/t.db", "get", "ippool", b"a\xff"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "is not text in UTF-8" in done.stderr
    assert "unforeseen" not in done.stderr
