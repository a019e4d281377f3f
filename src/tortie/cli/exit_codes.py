"""Which error ends the command with which code: the one table. ``docs/reference/exit-codes.md`` shows it to users."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tortie import errors

OK = 0
FAILED = 1
"""What was asked about is not so (a check found a fault), or an error that has no code of its own."""
USAGE = 2
DEFECT = 70
"""An error that Tortie did not foresee (``EX_SOFTWARE``)."""
INTERRUPTED = 130
PIPE_CLOSED = 141

EXIT_CODES: dict[type[errors.TortieError], int] = {
    errors.TortieError: FAILED,
    errors.UsageError: USAGE,
    errors.InvalidResource: 3,
    errors.SelectorSyntaxError: 3,
    errors.InvalidDocument: 3,
    errors.NotFound: 4,
    errors.AlreadyExists: 5,
    errors.Conflict: 6,
    errors.StoreError: 7,
    errors.StoreUnavailable: 7,
    errors.HistoryGone: 7,
    errors.AccessDenied: 8,
    errors.AddressesExhausted: 9,
    errors.KernelError: 10,
    errors.NamespaceGone: 10,
    errors.ProgramFailed: 11,
    errors.AgentUnavailable: 12,
    errors.DeadlineExceeded: 13,
    errors.DataplaneUnsupported: 14,
}


def exit_code(error: errors.TortieError) -> int:
    """The code of the error's own type, or of the nearest type above it."""
    return next((EXIT_CODES[each] for each in type(error).__mro__ if each in EXIT_CODES), FAILED)


@contextmanager
def answering() -> Iterator[None]:
    """For questions of policy: whatever keeps one from being answered ends with `USAGE`."""
    try:
        yield
    except errors.UsageError:
        raise
    except errors.TortieError as error:
        raise errors.UsageError(str(error)) from None
