"""Shim and configuration land whole, and go again."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import pytest

from tortie.cni.install import conflist, install, shim, uninstall


def test_what_is_installed_runs_and_says_1_0_0(tmp_path: Path) -> None:
    program, listed = install(
        bin_dir=tmp_path / "opt/cni/bin",
        conf_dir=tmp_path / "etc/cni/net.d",
        configuration=conflist(socket="/run/x/cni.sock", mtu=1440),
    )
    done = subprocess.run(
        [program], input=b"", capture_output=True, env={"CNI_COMMAND": "VERSION"}, check=True
    )
    assert "1.0.0" in json.loads(done.stdout)["supportedVersions"]
    document = json.loads(listed.read_text())
    assert document["cniVersion"] == "1.0.0"
    assert [plugin["type"] for plugin in document["plugins"]] == ["tortie", "portmap", "bandwidth"]
    assert (document["plugins"][0]["socket"], document["plugins"][0]["mtu"]) == ("/run/x/cni.sock", 1440)
    assert document["plugins"][1]["capabilities"] == {"portMappings": True}
    assert program.name == document["plugins"][0]["type"]
    assert listed.suffix == ".conflist"


def test_installing_again_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    for network in ("one", "two"):
        install(
            bin_dir=tmp_path / "bin",
            conf_dir=tmp_path / "conf",
            configuration=conflist(network=network, chained=()),
        )
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["10-tortie.conflist", "tortie"]
    assert json.loads((tmp_path / "conf/10-tortie.conflist").read_text())["name"] == "two"


def test_a_running_shim_does_not_stand_in_the_way(tmp_path: Path) -> None:
    program, _ = install(bin_dir=tmp_path / "bin", conf_dir=tmp_path / "conf")
    running = subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"CNI_COMMAND": "VERSION"}
    )
    install(bin_dir=tmp_path / "bin", conf_dir=tmp_path / "conf")
    running.communicate(b"", timeout=10)
    assert running.returncode == 0


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, _ = install(bin_dir=tmp_path / "bin", conf_dir=tmp_path / "conf")
    before = program.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tortie.cni.install.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        install(bin_dir=tmp_path / "bin", conf_dir=tmp_path / "conf")
    assert program.read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "bin").iterdir()) == ["tortie"]


def test_uninstall_twice(tmp_path: Path) -> None:
    install(bin_dir=tmp_path / "bin", conf_dir=tmp_path / "conf")
    for _ in range(2):
        uninstall(bin_dir=tmp_path / "bin", conf_dir=tmp_path / "conf")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_the_shim_is_static() -> None:
    image = shim().read_bytes()
    (headers,) = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    kinds = {struct.unpack_from("<I", image, headers + index * size)[0] for index in range(count)}
    load, interpreter = 1, 3
    assert load in kinds
    assert interpreter not in kinds
