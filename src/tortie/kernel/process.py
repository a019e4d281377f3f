"""The one door through which Tortie starts other programs: argument lists, never a shell, bounded in time and output.

asyncio starts children by ``vfork`` and ``exec`` in one step, so that no thread ever sees a fork of itself.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from tortie.errors import DeadlineExceeded, ProgramFailed

TAIL_BYTES = 2000
"""How much of a failed program's error output an error carries."""


class Outcome(NamedTuple):
    """How a program ended; a negative ``status`` is the signal that ended it."""

    status: int
    stdout: bytes
    stderr: bytes


async def run(
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    environment: Mapping[str, str] | None = None,
    timeout_seconds: float = 30.0,
    check: bool = True,
) -> Outcome:
    """Run a program to its end. ``environment`` replaces ours whole.

    Raises `ProgramFailed` when it cannot be started, or ends with an error and ``check`` is set; `DeadlineExceeded` after
    ``timeout_seconds``, when it has been killed.
    """
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
    except OSError as error:
        raise ProgramFailed(argv[0], 127, error.strerror or str(error)) from None
    try:
        stdout, stderr = await asyncio.wait_for(child.communicate(stdin), timeout_seconds)
    except TimeoutError:
        raise DeadlineExceeded(" ".join(argv[:4]), timeout_seconds) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    status = child.returncode if child.returncode is not None else -1
    if check and status:
        tail = (stderr.strip() or stdout.strip())[-TAIL_BYTES:]
        raise ProgramFailed(argv[0], status, tail.decode(errors="replace"))
    return Outcome(status, stdout, stderr)


async def spawn(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    output: Path,
    detached: bool = False,
) -> asyncio.subprocess.Process:
    """Start a program that goes on, its output appended to the file ``output`` (0600).

    ``detached``: it is in a session of its own and outlives us. Raises `ProgramFailed` when it cannot be started.
    """
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=directory,
            start_new_session=detached,
        )
    except OSError as error:
        raise ProgramFailed(argv[0], 127, error.strerror or str(error)) from None
    finally:
        os.close(log)


def become(argv: Sequence[str]) -> NoReturn:
    """Replace this process by another program, its input, output and exit code ours. Raises `ProgramFailed`."""
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        raise ProgramFailed(argv[0], 127, error.strerror or str(error)) from None
