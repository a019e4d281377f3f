from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from tortie.observe import log


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_a_logger_made_before_follows_every_change_of_level_and_format() -> None:
    logger = log.get("calculation")
    first, second = io.StringIO(), io.StringIO()
    log.configure(level="warning", stream=first)
    logger.info("not shown")
    logger.warning("shown", key="a b", number=3)
    assert first.getvalue().endswith("warning calculation: shown key='a b' number=3\n")
    log.configure(level="debug", format="json", stream=second)
    logger.debug("now shown")
    line = json.loads(second.getvalue())
    assert (line["event"], line["room"], line["level"]) == ("now shown", "calculation", "debug")


def test_a_traceback_is_written_below_the_line() -> None:
    out = io.StringIO()
    log.configure(stream=out)
    try:
        raise RuntimeError("on purpose")
    except RuntimeError:
        log.get("x").exception("it broke")
    assert "Traceback" in out.getvalue()
    assert "RuntimeError: on purpose" in out.getvalue()


def test_an_unknown_level_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="'loud' is no log level: use one of debug"):
        log.configure(level="loud")
