"""The process's log: one line an event on stderr, as text for people or as JSON for machines.

Loggers are made once (``log = get("calculation")``) and follow every later change of level or format.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import structlog

Format = Literal["text", "json"]

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "none": logging.CRITICAL + 10,
}
"""Felix's names (``logSeverityScreen``), in lower case, and the numbers of the standard library."""

Logger = structlog.typing.FilteringBoundLogger


def get(room: str) -> Logger:
    """The logger of one room of the process; each of its lines carries ``room``."""
    logger: Logger = structlog.get_logger(room=room)
    return logger


def configure(*, level: str = "info", format: Format = "text", stream: TextIO | None = None) -> None:
    """Set or change what is logged, and how. Raises `ValueError` for a level that is none of `LEVELS`."""
    number = LEVELS.get(level.lower())
    if number is None:
        raise ValueError(f"{level!r} is no log level: use one of {', '.join(LEVELS)}")
    output = sys.stderr if stream is None else stream
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _exception,
            structlog.processors.JSONRenderer(default=str) if format == "json" else _line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=output),
        # A logger asks for the configuration at each line, so that the level can change while the process runs.
        cache_logger_on_first_use=False,
    )


def _exception(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write a traceback into the field ``exception``; without rich, which is large and not always there."""
    formatted: MutableMapping[str, Any] = structlog.processors.format_exc_info(_, __, event)
    return formatted


def _line(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """``2026-11-22T23:40:01Z info  calculation: flushed generation=3``."""
    when = str(event.pop("timestamp", ""))
    level = str(event.pop("level", ""))
    room = event.pop("room", "tortie")
    text = str(event.pop("event", ""))
    trace = event.pop("exception", None)
    fields = "".join(f" {key}={_value(value)}" for key, value in event.items())
    tail = f"\n{trace}" if trace else ""
    return f"{when} {level:<7} {room}: {text}{fields}{tail}"


def _value(value: object) -> str:
    text = str(value)
    return repr(text) if " " in text or not text else text
