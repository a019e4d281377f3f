"""The frame of the command ``tortie``: its commands by name, and how whatever goes wrong reaches the user."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

import click

import tortie
from tortie.cli import exit_codes
from tortie.cli.context import Settings, global_options, take_global_options
from tortie.cli.lazy import LazyGroup
from tortie.errors import TortieError

COMMANDS: dict[str, tuple[str, str]] = {
    "apply": ("tortie.cli.write:apply", "Create or replace resources of files."),
    "create": ("tortie.cli.write:create", "Create resources of files; what exists is an error."),
    "replace": (
        "tortie.cli.write:replace",
        "Replace resources by those of files; what does not exist is an error.",
    ),
    "delete": ("tortie.cli.delete", "Delete resources by file or by name."),
    "get": ("tortie.cli.get", "Show resources."),
    "patch": ("tortie.cli.patch", "Change some fields of a stored resource."),
    "validate": ("tortie.cli.validate", "Say everything that is wrong with resources of files."),
    "label": ("tortie.cli.label", "Change labels of a pod, a namespace or another resource."),
    "policy": (
        "tortie.cli.policy",
        "Which rule decides, who reaches whom, what a change would change.",
    ),
    "ipam": ("tortie.cli.ipam", "Addresses: show, check, release, configure."),
    "node": ("tortie.cli.node", "This node: BGP status, set-up."),
    "check": ("tortie.cli.check", "Check that pods and nodes reach one another."),
    "lab": ("tortie.cli.lab", "A cluster of several nodes on this machine."),
    "cni": ("tortie.cli.cni", "Install the CNI plugin."),
    "agent": ("tortie.cli.agent", "Run the agent of a node."),
    "version": ("tortie.cli.version", "Print the version."),
}
"""Each command's module, and its line in ``tortie --help``. A module defines ``command``."""


def _root() -> None:
    """Layer-3 pod networking: resources, addresses, routes, and a lab to try them in."""


cli = LazyGroup(
    "tortie",
    lazy=COMMANDS,
    dress=take_global_options,
    callback=_root,
    help=_root.__doc__,
    params=[*global_options()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
click.version_option(tortie.__version__, prog_name="tortie")(cli)


def _flat(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, at any depth."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
            yield from _flat(each)  # pyright: ignore[reportUnknownArgumentType]
    else:
        yield error


def _report(error: BaseException) -> int:
    """Print the error as a fact and return its code. A traceback is shown only to those who ask for it."""
    found = list(_flat(error))
    ours = [each for each in found if isinstance(each, TortieError)]
    if any(isinstance(each, KeyboardInterrupt | click.Abort) for each in found):
        return exit_codes.INTERRUPTED
    if os.environ.get("TORTIE_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    if ours:
        for line in dict.fromkeys(
            line for each in ours for line in (str(each) or type(each).__name__).splitlines()
        ):
            click.echo(f"error: {line}", err=True)
        for note in (note for each in ours for note in getattr(each, "__notes__", ())):
            click.echo(f"note: {note}", err=True)
        return exit_codes.exit_code(ours[0])
    first = found[0]
    if isinstance(first, OSError) and first.strerror:
        where = f"{first.filename}: " if first.filename else ""
        click.echo(f"error: {where}{first.strerror}", err=True)
        return exit_codes.FAILED
    if isinstance(first, UnicodeEncodeError) and first.encoding == "utf-8":
        # What the command line or the environment gave us: files are checked when they are read.
        click.echo(f"error: {ascii(first.object)[:200]} is not text in UTF-8", err=True)
        return exit_codes.USAGE
    click.echo(
        f"error: unforeseen: {type(first).__name__}: {first}; this is a defect of Tortie, "
        "TORTIE_TRACEBACK=1 shows where",
        err=True,
    )
    return exit_codes.DEFECT


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Nothing escapes."""
    try:
        result: object = cli.main(args=arguments, prog_name="tortie", standalone_mode=False, obj=Settings())
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # The reader has gone, for instance `head`: what Python still wants to flush goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.PIPE_CLOSED
    except SystemExit as stop:
        if type(sys.stdout).__name__.endswith(
            "PacifyFlushWrapper"
        ):  # click's answer to a reader that has gone
            return exit_codes.PIPE_CLOSED
        return (
            stop.code
            if isinstance(stop.code, int)
            else exit_codes.OK
            if stop.code is None
            else exit_codes.FAILED
        )
    except BaseException as error:
        return _report(error)
    return result if isinstance(result, int) else exit_codes.OK


def main() -> None:
    """The console's entry point."""
    sys.exit(run())
