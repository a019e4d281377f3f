"""The file that BIRD reads, and the BIRD that has read it.

A text becomes real in four steps: written beside the old file (0600: it may hold passwords), read by ``bird -p``, moved
over the old one, and BIRD told of it. BIRD refuses nothing that ``bird -p`` took, so a bad text never replaces a good one.

The file ends with a constant that is named after the rest of it. So BIRD itself says whether it runs this text, and an agent
that starts leaves a BIRD alone that does: to configure one that recovers its routes just then would disturb it for nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tortie.dataplane.api import Outcome
from tortie.dataplane.bird.manager import CONFIGURATION
from tortie.errors import KernelError, ProgramFailed, TortieError
from tortie.kernel.bird import BirdControl
from tortie.kernel.process import run


class BirdDriver:
    """Keeps ``configuration`` and the BIRD behind ``control`` in line.

    Starts no BIRD: one that starts later reads the file itself.
    """

    name: ClassVar[str] = "bird"

    def __init__(self, configuration: Path, control: BirdControl, *, program: str = "bird") -> None:
        self._path = configuration
        self._control = control
        self._program = program
        self._told: str | None = None
        """The text that BIRD confirmed since we started."""

    async def read(self) -> Mapping[str, str]:
        """The text that BIRD is known to run; empty while there is none."""
        text = self._told
        return {} if text is None or _marked(text) != self._stored() else {CONFIGURATION: text}

    async def apply(self, put: Mapping[str, str], gone: frozenset[str]) -> Outcome:
        """Make BIRD run this text. ``gone`` is ignored: a node without BGP has a text of its own."""
        text = put.get(CONFIGURATION)
        if text is None:
            return Outcome()
        try:
            stands = _marked(text) == self._stored()
            if not stands:
                await self._replace(_marked(text))
            if not stands or not await self._control.defines(_mark(text)):
                await self._control.configure()
        except TortieError as error:
            return Outcome({CONFIGURATION: error})
        except OSError as error:
            return Outcome({CONFIGURATION: KernelError(error.errno or 0, "write", str(self._path))})
        self._told = text
        return Outcome()

    def _stored(self) -> str | None:
        try:
            return self._path.read_text()
        except FileNotFoundError:
            return None

    async def _replace(self, text: str) -> None:
        draft = self._path.with_name(f".{self._path.name}.draft")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        try:
            await run([self._program, "-p", "-c", str(draft)], timeout_seconds=10)
        except ProgramFailed as error:
            draft.unlink(missing_ok=True)
            raise ProgramFailed(f"{self._program} -p", error.status, error.stderr_tail) from None
        draft.replace(self._path)


def _mark(text: str) -> str:
    return f"tortie_{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _marked(text: str) -> str:
    return f"{text}define {_mark(text)} = 1;\n"
