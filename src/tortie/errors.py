"""Every error that Tortie raises on purpose.

::

    TortieError
    ├── InvalidResource(field, value, rule, key, origin)
    │   └── SelectorSyntaxError(column, expected)
    ├── InvalidDocument(findings)
    ├── StoreError
    │   ├── NotFound(key) · AlreadyExists(key) · Conflict(key)
    │   ├── HistoryGone
    │   ├── AccessDenied
    │   └── StoreUnavailable
    ├── AddressesExhausted(reason)
    ├── KernelError(errno, operation, subject)
    │   └── NamespaceGone
    ├── ProgramFailed(program, status, stderr_tail)
    ├── AgentUnavailable
    ├── DeadlineExceeded(operation, waited_seconds)
    ├── DataplaneUnsupported(what, remedy)
    └── UsageError(message)

Errors read as facts. Arguments go to ``super().__init__`` so that each pickles; the text is made in ``__str__``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence


class TortieError(Exception):
    """The root: whatever a user may meet. Anything else that escapes is a defect of Tortie."""


MOST_SHOWN = 200
"""So many characters of a value stand in a text; of a longer one its beginning, and how long it is."""


def _short(text: str) -> str:
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN // 2]}… ({len(text)} characters)"


class UsageError(TortieError):
    """The command, its arguments or its configuration cannot be understood; the text says what to write instead."""


class InvalidResource(TortieError):
    """A field of a resource breaks a rule. Never retried.

    ``field`` is a path (``spec.blockSize``), ``value`` what stood there, ``rule`` reads on after the value
    (``is not between 20 and 32``), ``key`` names the resource, ``origin`` says file and line where there is one.
    """

    def __init__(self, field: str, value: object, rule: str, key: str = "", origin: str = "") -> None:
        super().__init__(field, value, rule, key, origin)
        self.field = field
        self.value = value
        self.rule = rule
        self.key = key
        self.origin = origin

    @property
    def finding(self) -> str:
        """Field, value and rule, for where it is plain which resource is meant."""
        shown = "" if self.value is None else f" {_short(str(self.value))}"
        return f"{self.field}:{shown} {self.rule}"

    def __str__(self) -> str:
        return ": ".join(part for part in (self.origin, _short(self.key), self.finding) if part)


class SelectorSyntaxError(InvalidResource):
    """A selector that cannot be parsed; ``column`` counts from 1."""

    def __init__(
        self, field: str, value: object, column: int, expected: str, key: str = "", origin: str = ""
    ) -> None:
        super().__init__(field, value, f"has an error at column {column}: expected {expected}", key, origin)
        self.args = (field, value, column, expected, key, origin)
        self.column = column
        self.expected = expected


class InvalidDocument(TortieError):
    """A file that cannot be taken: ``findings`` holds each thing that is wrong with it."""

    def __init__(self, findings: Sequence[InvalidResource]) -> None:
        super().__init__(tuple(findings))
        self.findings = tuple(findings)

    def __str__(self) -> str:
        return "\n".join(str(finding) for finding in self.findings)


class StoreError(TortieError):
    """The datastore did not do what was asked."""


class NotFound(StoreError):
    """There is nothing at this key."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"{self.key} does not exist"


class AlreadyExists(StoreError):
    """There is something at this key already."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"{self.key} exists already"


class Conflict(StoreError):
    """Someone wrote this key first: read again and retry."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"{self.key} was changed by someone else meanwhile"


class HistoryGone(StoreError):
    """A watch cannot resume there: compacted away, or a revision the datastore has not reached. List anew."""

    def __str__(self) -> str:
        return (
            str(self.args[0]) if self.args else "the datastore no longer holds the history that was asked for"
        )


class AccessDenied(StoreError):
    """The datastore refuses these credentials. Never retried in a tight loop."""


class StoreUnavailable(StoreError):
    """The datastore cannot be reached. Retried with back-off."""


class AddressesExhausted(TortieError):
    """No address can be had; the text says of which pools and why."""


class KernelError(TortieError):
    """The kernel refused: ``operation`` in words, ``subject`` what it was done to, ``detail`` its own words, if any."""

    def __init__(self, errno: int, operation: str, subject: str = "", detail: str = "") -> None:
        super().__init__(errno, operation, subject, detail)
        self.errno = errno
        self.operation = operation
        self.subject = subject
        self.detail = detail

    def __str__(self) -> str:
        subject = f" {self.subject}" if self.subject else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"cannot {self.operation}{subject}: {os.strerror(self.errno)}{detail}"


class NamespaceGone(KernelError):
    """The network namespace vanished: as a rule its container has ended."""


class ProgramFailed(TortieError):
    """A program that Tortie started ended with an error."""

    def __init__(self, program: str, status: int, stderr_tail: str = "") -> None:
        super().__init__(program, status, stderr_tail)
        self.program = program
        self.status = status
        self.stderr_tail = stderr_tail

    def __str__(self) -> str:
        tail = f": {self.stderr_tail.strip()}" if self.stderr_tail.strip() else ""
        return f"{self.program} ended with status {self.status}{tail}"


class AgentUnavailable(TortieError):
    """No agent answers at its socket; the text names the socket and what to do."""


class DeadlineExceeded(TortieError):
    """Something took longer than it was given."""

    def __init__(self, operation: str, waited_seconds: float) -> None:
        super().__init__(operation, waited_seconds)
        self.operation = operation
        self.waited_seconds = waited_seconds

    def __str__(self) -> str:
        return f"{self.operation}: no result after {self.waited_seconds:.3g} s"


class DataplaneUnsupported(TortieError):
    """This machine cannot do what is asked; ``remedy`` says what would help."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"
