"""The shim reads JSON as Python's reader does, seen through a build of it that stops at the first misuse of memory."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SOURCE = Path(__file__).parents[2] / "native" / "tortie-cni.c"

pytestmark = pytest.mark.needs("gcc")

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(
    st.text(max_size=8) | st.sampled_from(["cniVersion", "name", "socket"]), values, max_size=5
)


@pytest.fixture(scope="module")
def sanitised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim with the compiler's checks of addresses and undefined behaviour, which end it with status 99."""
    target = tmp_path_factory.mktemp("shim") / "tortie-cni"
    checks = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-static-libasan", "-O1", "-g"]
    subprocess.run(["gcc", "-std=gnu11", *checks, "-o", str(target), str(SOURCE)], check=True)
    return target


def ask(program: Path, data: bytes, command: str = "VERSION") -> tuple[int, dict[str, Any]]:
    env = {
        "CNI_COMMAND": command,
        "ASAN_OPTIONS": "exitcode=99:detect_leaks=0",
        "UBSAN_OPTIONS": "exitcode=99",
    }
    done = subprocess.run([program], input=data, capture_output=True, env=env, timeout=30, check=False)
    assert done.returncode in (0, 1), done.stderr.decode(errors="replace")
    return done.returncode, json.loads(done.stdout)


def refuse_constant(name: str) -> None:
    raise ValueError(name)


def is_json_object(data: bytes) -> bool:
    """RFC 8259, strictly: UTF-8, no NaN, no half surrogate pairs."""
    try:
        text = data.decode()
        pairs = json.loads(
            text,
            parse_constant=refuse_constant,
            parse_int=str,
            parse_float=str,
            object_pairs_hook=lambda pairs: ("object", pairs),
        )
        json.dumps(pairs, ensure_ascii=False).encode()
    except ValueError:
        return False
    return isinstance(pairs, tuple)


@given(document=objects, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
@settings(max_examples=60)
def test_what_python_writes_is_read(
    sanitised: Path, document: dict[str, Any], ascii_only: bool, indent: int | None
) -> None:
    document.pop("socket", None)
    status, answer = ask(sanitised, json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode())
    assert status == 0
    version = document.get("cniVersion")
    if isinstance(version, str) and 0 < len(version.encode()) < 32 and "\0" not in version:
        assert answer["cniVersion"] == version


@given(
    document=objects,
    edits=st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 3), st.binary(min_size=0, max_size=3)), max_size=4
    ),
)
@settings(max_examples=200)
def test_a_damaged_document_is_judged_as_python_judges_it(
    sanitised: Path, document: dict[str, Any], edits: list[tuple[int, int, bytes]]
) -> None:
    data = json.dumps(document, ensure_ascii=False).encode()
    for place, removed, added in edits:
        at = place % (len(data) + 1)
        data = data[:at] + added + data[at + removed :]
    status, answer = ask(sanitised, data or b" ")
    if is_json_object(data):
        assert status == 0 or answer["code"] == 7, answer
    else:
        assert answer.get("code") == 6, answer


@given(
    name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=24),
    before=objects,
)
@settings(max_examples=40)
def test_the_socket_is_found_wherever_it_stands_and_however_it_is_escaped(
    sanitised: Path, name: str, before: dict[str, Any]
) -> None:
    before.pop("socket", None)
    document = {"nested": {"socket": "/wrong"}, **before, "agentWaitSeconds": 0, "socket": f"/nowhere/{name}"}
    _, answer = ask(
        sanitised, json.dumps(document).replace('"socket": "/now', '"so\\u0063ket": "/now').encode(), "ADD"
    )
    assert answer["code"] == 11
    assert f"at /nowhere/{name};" in answer["msg"]
