"""The generated files are what the ``.proto`` files beside them say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tortie

SOURCE = Path(tortie.__file__).parent.parent
FOLDER = Path("tortie/datastore/etcd/proto")


@pytest.mark.parametrize("name", ["kv", "rpc"])
def test_generated_files_are_up_to_date(name: str, tmp_path: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "-I", str(SOURCE)),
            *(f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", str(SOURCE / FOLDER / f"{name}.proto")),
        ],
        check=True,
    )
    for suffix in ("_pb2.py", "_pb2.pyi"):
        made = (tmp_path / FOLDER / f"{name}{suffix}").read_text()
        assert (SOURCE / FOLDER / f"{name}{suffix}").read_text() == made
