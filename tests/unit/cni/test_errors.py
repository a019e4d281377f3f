"""One table from Tortie's errors to CNI's codes, with nothing forgotten."""

from __future__ import annotations

import inspect
import json

import pytest

from tortie import errors
from tortie.cni.errors import CODES, CNIError, Code, code_of, render


def test_every_error_has_a_code() -> None:
    defined = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.TortieError)
    }
    assert set(CODES) == defined


def test_a_class_without_an_entry_has_its_parents_code() -> None:
    class Special(errors.StoreUnavailable):
        pass

    assert code_of(Special()) == Code.TRY_LATER
    assert code_of(ZeroDivisionError()) == Code.INTERNAL
    assert code_of(CNIError(42, "own")) == 42


def test_an_error_is_written_as_the_specification_says() -> None:
    error = CNIError(Code.INVALID_CONFIG, "mtu: 7 is too small", "the rest")
    assert json.loads(render(error, version="0.4.0")) == {
        "cniVersion": "0.4.0",
        "code": 7,
        "msg": "mtu: 7 is too small",
        "details": "the rest",
    }
    assert json.loads(render(errors.NotFound("Node node1"), version="1.0.0")) == {
        "cniVersion": "1.0.0",
        "code": 106,
        "msg": "Node node1 does not exist",
    }


def test_what_is_no_error_of_ours_is_told_as_a_defect() -> None:
    document = json.loads(render(KeyError("x"), version="1.0.0"))
    assert document["code"] == 100
    assert document["msg"] == "internal error: KeyError: 'x'"
    assert "defect" in document["details"]


@pytest.mark.parametrize(("code", "shown"), [(11, 50), (7, 50), (50, 50), (51, 51)])
def test_a_failing_status_means_not_available(code: int, shown: int) -> None:
    assert json.loads(render(CNIError(code, "no"), version="1.1.0", command="STATUS"))["code"] == shown
