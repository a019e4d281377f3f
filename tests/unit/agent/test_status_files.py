from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.agent.status_files import StatusFiles, file_name, split_name
from tortie.desired.endpoints import EndpointKey, EndpointRow
from tortie.net.addresses import Address
from tortie.resources.workload_endpoint import endpoint_name

WEB = EndpointKey("default", "node--1-k8s-web--0-eth0")
ROW = EndpointRow(
    interface="cali1",
    mac="02:00:00:00:00:01",
    addresses=(Address.parse("10.65.0.2"), Address.parse("fd00::2")),
)
FILE = "k8s default%2Fweb-0 eth0"


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (WEB, FILE),
        (EndpointKey("default", "n-cni-abc123-eth0"), "cni abc123 eth0"),
        (EndpointKey("ns", "odd"), "ns%2Fodd"),
    ],
)
def test_names_are_felix_s(key: EndpointKey, name: str) -> None:
    assert file_name(key) == name


@given(st.lists(st.from_regex(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", fullmatch=True), min_size=4, max_size=4))
def test_the_parts_of_a_name_come_back(parts: list[str]) -> None:
    assert split_name(endpoint_name(*parts)) == parts


def test_files_follow_endpoints(tmp_path: Path) -> None:
    files = StatusFiles(tmp_path / "made" / "on demand")
    files.start({WEB: ROW})
    path = files.directory / FILE
    assert json.loads(path.read_bytes()) == {
        "ifaceName": "cali1",
        "mac": "02:00:00:00:00:01",
        "ipv4Nets": ["10.65.0.2/32"],
        "ipv6Nets": ["fd00::2/128"],
    }
    files.update({}, [WEB])
    assert not path.exists()
    files.update({WEB: ROW}, [])
    assert path.exists()


def test_a_restart_removes_the_stale_and_reuses_the_rest(tmp_path: Path) -> None:
    StatusFiles(tmp_path).start({WEB: ROW})
    directory = tmp_path / "endpoint-status"
    before = (directory / FILE).stat()
    (directory / "sdfsdf").write_text("stale")
    (directory / "k8s default%2Fgone eth0").write_text("{}")
    StatusFiles(tmp_path).start({WEB: ROW})
    assert [path.name for path in directory.iterdir()] == [FILE]
    after = (directory / FILE).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
