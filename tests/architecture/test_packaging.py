"""The wheel carries the shim, executable, under a tag that says for which machines; the lock names no index."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "src", "native")


def test_the_wheel_holds_the_shim_for_this_platform(tmp_path: Path) -> None:
    for part in PARTS:
        source, target = ROOT / part, tmp_path / "tree" / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "bin"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(tmp_path / "tree")], check=True, timeout=110)
    (wheel,) = tmp_path.glob("*.whl")
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        shim = archive.getinfo("tortie/cni/bin/tortie-cni")
        assert archive.read(shim).startswith(b"\x7fELF")
        assert shim.external_attr >> 16 & 0o111
    assert "tortie/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "native/"))]


def test_every_requirement_is_pinned_and_hashed() -> None:
    for lock in ("run.lock", "dev.lock"):
        text = (ROOT / "requirements" / lock).read_text()
        pins = re.findall(r"^[a-z0-9][^\n]*", text, re.MULTILINE)
        assert pins
        for block in re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]:
            assert re.match(r"[\w.\-]+==\S+", block), block
            assert "--hash=sha256:" in block, block
        assert not re.search(r"https?://|^--", text, re.MULTILINE)


def test_the_locks_agree() -> None:
    def pins(lock: str) -> dict[str, str]:
        text = (ROOT / "requirements" / lock).read_text()
        return dict(re.findall(r"^([\w.\-]+)==(\S+)", text, re.MULTILINE))

    run, dev = pins("run.lock"), pins("dev.lock")
    assert run
    assert {name: dev.get(name) for name in run} == run
