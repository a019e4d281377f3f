from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tortie.cli.main import run


def install(folder: Path, *more: str) -> int:
    return run(
        ["cni", "install", "--bin-dir", str(folder / "bin"), "--conf-dir", str(folder / "net.d"), *more]
    )


def test_plugin_and_configuration_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(tmp_path, "--socket", "/run/x/cni.sock", "--mtu", "1410", "--network", "pods") == 0
    program = tmp_path / "bin" / "tortie"
    assert program.stat().st_mode & stat.S_IXUSR
    listed = json.loads((tmp_path / "net.d" / "10-tortie.conflist").read_text())
    assert (listed["cniVersion"], listed["name"]) == ("1.0.0", "pods")
    own, *others = listed["plugins"]
    assert (own["type"], own["socket"], own["mtu"]) == ("tortie", "/run/x/cni.sock", 1410)
    assert [plugin["type"] for plugin in others] == ["portmap", "bandwidth"]
    assert f"wrote {program}" in capsys.readouterr().out


def test_again_is_an_upgrade(tmp_path: Path) -> None:
    for mtu in ("0", "1400"):
        assert install(tmp_path, "--mtu", mtu, "--no-chain") == 0
    listed = json.loads((tmp_path / "net.d" / "10-tortie.conflist").read_text())
    assert [plugin.get("mtu") for plugin in listed["plugins"]] == [1400]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "10-tortie.conflist",
        "tortie",
    ]


def test_another_ipam_is_taken_over(tmp_path: Path) -> None:
    ipam = '{"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]}'
    assert install(tmp_path, "--ipam", ipam, "--chain", "portmap", "--version", "0.4.0") == 0
    listed = json.loads((tmp_path / "net.d" / "10-tortie.conflist").read_text())
    assert listed["cniVersion"] == "0.4.0"
    assert listed["plugins"][0]["ipam"] == json.loads(ipam)
    assert [plugin["type"] for plugin in listed["plugins"]] == ["tortie", "portmap"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--mtu", "5"), "mtu: 5"),
        (("--network", "a b"), "name: a b"),
        (("--version", "2.0.0"), "--version 2.0.0"),
        (("--ipam", "{"), "--ipam: is not JSON"),
        (("--ipam", "[]"), "--ipam: is not a JSON object"),
        (("--ipam", '{"type": "../x"}'), "ipam.type"),
        (("--no-chain", "--chain", "portmap"), "exclude each other"),
    ],
)
def test_what_no_agent_would_take_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    assert install(tmp_path, *arguments) != 0
    assert says in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.conflist"))


def test_printing_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(tmp_path, "--print") == 0
    assert json.loads(capsys.readouterr().out)["plugins"]
    assert not list(tmp_path.iterdir())


def test_uninstalling_twice_is_success(tmp_path: Path) -> None:
    install(tmp_path)
    for _ in range(2):
        places = ["--bin-dir", str(tmp_path / "bin"), "--conf-dir", str(tmp_path / "net.d")]
        assert run(["cni", "uninstall", *places]) == 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
