"""CNI's error codes, and the one table from Tortie's errors to them.

Codes 1 to 99 are the specification's (https://www.cni.dev/docs/spec/#error), those from 100 on are Tortie's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import msgspec

from tortie import errors


class Code(IntEnum):
    """What a runtime may tell apart. ``TRY_LATER`` is the only one that promises anything of a retry."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    INVALID_JSON = 6
    INVALID_CONFIG = 7
    TRY_LATER = 11
    NOT_AVAILABLE = 50
    LIMITED_CONNECTIVITY = 51
    INTERNAL = 100
    ADDRESSES_EXHAUSTED = 101
    KERNEL = 102
    NAMESPACE_GONE = 103
    PROGRAM_FAILED = 104
    ACCESS_DENIED = 105
    NOT_FOUND = 106
    ALREADY_EXISTS = 107
    UNSUPPORTED = 108
    CHECK_FAILED = 110
    DELEGATE_FAILED = 111


class CNIError(errors.TortieError):
    """A request that is refused with a certain code; ``details`` adds what a log reader wants."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(code, message, details)
        self.code = code
        self.message = message
        self.details = details

    def __str__(self) -> str:
        return self.message


CODES: Mapping[type[errors.TortieError], Code] = {
    errors.TortieError: Code.INTERNAL,
    errors.UsageError: Code.INVALID_CONFIG,
    errors.InvalidResource: Code.INVALID_CONFIG,
    errors.SelectorSyntaxError: Code.INVALID_CONFIG,
    errors.InvalidDocument: Code.INVALID_CONFIG,
    errors.StoreError: Code.TRY_LATER,
    errors.NotFound: Code.NOT_FOUND,
    errors.AlreadyExists: Code.ALREADY_EXISTS,
    errors.Conflict: Code.TRY_LATER,
    errors.HistoryGone: Code.TRY_LATER,
    errors.AccessDenied: Code.ACCESS_DENIED,
    errors.StoreUnavailable: Code.TRY_LATER,
    errors.AddressesExhausted: Code.ADDRESSES_EXHAUSTED,
    errors.KernelError: Code.KERNEL,
    errors.NamespaceGone: Code.NAMESPACE_GONE,
    errors.ProgramFailed: Code.PROGRAM_FAILED,
    errors.AgentUnavailable: Code.TRY_LATER,
    errors.DeadlineExceeded: Code.TRY_LATER,
    errors.DataplaneUnsupported: Code.UNSUPPORTED,
}
"""Exhaustive: a test holds it against every class in `tortie.errors`."""


def code_of(error: BaseException) -> int:
    """The code of any exception; what is no `TortieError` is a defect of ours and `Code.INTERNAL`."""
    if isinstance(error, CNIError):
        return error.code
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return Code.INTERNAL


def render(error: BaseException, *, version: str, command: str = "") -> bytes:
    """The error as CNI prints it: JSON with ``cniVersion``, ``code``, ``msg`` and, where there is more, ``details``.

    A STATUS that fails means "cannot serve ADD", whatever the reason: code 50 or 51.
    """
    code = code_of(error)
    if command == "STATUS" and code not in (Code.NOT_AVAILABLE, Code.LIMITED_CONNECTIVITY):
        code = Code.NOT_AVAILABLE
    if isinstance(error, errors.TortieError):
        message, details = str(error), error.details if isinstance(error, CNIError) else ""
    else:
        message, details = (
            f"internal error: {type(error).__name__}: {error}",
            "a defect of Tortie; see the agent's log",
        )
    document: dict[str, object] = {"cniVersion": version, "code": int(code), "msg": message}
    if details:
        document["details"] = details
    return msgspec.json.encode(document) + b"\n"
