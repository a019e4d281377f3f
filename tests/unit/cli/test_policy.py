"""``tortie policy``: on files and on a datastore, for people and for machines, and its exit codes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.diagnostics.shop import FROM_NET, PODS, WEB_FROM_CLIENTS
from tortie.cli.main import run
from tortie.datastore.open import open_keyvalue

ALLOWED = ("--from", "shop/client", "--to", "shop/web", "--port", "http")
DENIED = ("--from", "other/stranger", "--to", "shop/web", "--port", "http")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "pods.yaml").write_text(PODS)
    (folder / "web.yaml").write_text(WEB_FROM_CLIENTS)
    return folder


@pytest.fixture
def store(tmp_path: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A datastore that holds the files."""
    url = f"sqlite://{tmp_path}/tortie.db"
    assert run(["--datastore", url, "apply", "-f", str(files)]) == 0
    capsys.readouterr()
    return url


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (ALLOWED, 0),
        (DENIED, 0),
        ((*ALLOWED, "--expect", "allow"), 0),
        ((*ALLOWED, "--expect", "deny"), 1),
        ((*DENIED, "--expect", "deny"), 0),
        ((*DENIED, "--expect", "allow"), 1),
        (("--from", "shop/nobody", "--to", "shop/web", "--port", "80"), 2),
        (("--from", "shop/client", "--to", "shop/web", "--port", "smtp"), 2),
        (("--from", "shop/client", "--to", "shop/web", "--port", "0"), 2),
        (("--from", "shop/client", "--to", "shop/web"), 2),
    ],
)
def test_exit_codes(files: Path, words: tuple[str, ...], code: int) -> None:
    assert run(["policy", "explain", *words, "-f", str(files)]) == code


def test_files_that_cannot_be_taken_leave_no_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(FROM_NET.replace("app == 'web'", "app =="))
    assert run(["policy", "explain", *ALLOWED, "-f", str(bad)]) == 2
    assert "bad.yaml:6" in capsys.readouterr().err
    assert run(["policy", "matrix", "--port", "80", "-f", str(tmp_path / "none.yaml")]) == 2
    assert run(["policy", "preview", "-f", str(bad), "--base", str(bad)]) == 2
    assert run(["policy", "preview"]) == 2
    assert run(["--datastore", "sqlite:///proc/none/x.db", "policy", "explain", *ALLOWED]) == 2


def explained(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["policy", "explain", *words, "-o", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_datastore_and_the_files_that_it_was_made_from_give_one_answer(
    store: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (ALLOWED, DENIED):
        from_store = explained(capsys, *words, "--datastore", store)
        assert from_store == explained(capsys, *words, "-f", str(files))
        step = from_store["ingress"]["steps"][0]
        assert (step["file"], step["line"]) == (str(files / "web.yaml"), 8)


def test_for_people(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "explain", *DENIED, "-f", str(files)]) == 0
    said = capsys.readouterr().out
    assert "tcp port 8080 (http): DENY" in said.splitlines()[0]
    assert f"rule 0: Allow, does not match [{files}/web.yaml:8]" in said
    assert "implicit isolation" in said
    assert "got other/stranger with app=client" in said


def test_matrix(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "matrix", "--port", "8080", "-o", "json", "-f", str(files)]) == 0
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    assert len(pairs) == 9
    assert {
        "source": "other/stranger",
        "destination": "shop/web",
        "port": 8080,
        "protocol": "tcp",
        "verdict": "deny",
    } in pairs
    assert run(["policy", "matrix", "--port", "8080", "-f", str(files)]) == 0
    assert "8 of 9 pairs" in capsys.readouterr().out


def test_preview(store: str, tmp_path: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = tmp_path / "new.yaml"
    new.write_text(WEB_FROM_CLIENTS.replace("app: client", "app: nobody"))
    expected = [
        {
            "source": "shop/client",
            "destination": "shop/web",
            "port": 8080,
            "protocol": "tcp",
            "before": "allow",
            "after": "deny",
        }
    ]
    for base in (["--datastore", store], ["--base", str(files)]):
        assert run(["policy", "preview", "-f", str(new), *base, "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"pairs": expected}
        assert run(["policy", "preview", "-f", str(new), *base]) == 0
        assert "allow becomes deny: from shop/client to shop/web" in capsys.readouterr().out
    assert explained(capsys, *ALLOWED, "--datastore", store)["verdict"] == "allow"


def test_preview_of_what_is_deleted(
    store: str, tmp_path: Path, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for base in (["--datastore", store], ["--base", str(files)]):
        assert run(["policy", "preview", "--delete", "-f", str(files / "web.yaml"), *base]) == 0
        assert "deny becomes allow: from other/stranger to shop/web" in capsys.readouterr().out


def test_preview_of_a_deleted_namespace_takes_its_labels_along(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: trusted, namespace: shop},"
        " spec: {selector: app == 'web', order: 1, ingress:"
        " [{action: Allow, source: {namespaceSelector: trust == 'yes'}}]}}"
    )
    namespace = tmp_path / "other.yaml"
    namespace.write_text("{apiVersion: v1, kind: Namespace, metadata: {name: other, labels: {trust: 'yes'}}}")
    assert run(["--datastore", store, "apply", "-f", str(policy), "-f", str(namespace)]) == 0
    assert explained(capsys, *DENIED, "--datastore", store)["verdict"] == "allow"
    words = ["policy", "preview", "--delete", "-f", str(namespace), "--port", "8080"]
    assert run(["--datastore", store, *words]) == 0
    assert "allow becomes deny: from other/stranger to shop/web" in capsys.readouterr().out
    assert run(["--datastore", store, "delete", "-f", str(namespace)]) == 0
    assert explained(capsys, *DENIED, "--datastore", store)["verdict"] == "deny"


async def _put(store: str, path: str, value: bytes) -> None:
    keyvalue = open_keyvalue(store)
    await keyvalue.commit(expect={}, put={f"/calico/resources/v3/projectcalico.org/{path}": value})
    await keyvalue.close()


def test_what_others_stored_is_taken_as_agents_take_it(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What validation refuses denies, and what a writer left out has its default."""
    asyncio.run(_put(store, "tiers/kube-admin", b'{"spec": {"order": 1000}}'))
    spec = b'{"spec": {"tier": "kube-admin", "selector": "all()", "ingress": [{"action": "Allow", "protocol": "UDP"}]}}'
    asyncio.run(_put(store, "globalnetworkpolicies/udp", spec))
    assert explained(capsys, *ALLOWED, "--datastore", store)["verdict"] == "allow"
    port = b'{"action": "Allow", "protocol": "TCP", "destination": {"ports": [0]}}'
    asyncio.run(
        _put(store, "networkpolicies/shop/zero", b'{"spec": {"order": 1, "ingress": [' + port + b"]}}")
    )
    assert run(["--datastore", store, "policy", "explain", *ALLOWED]) == 0
    said = capsys.readouterr()
    assert "invalid and therefore denying: spec.ingress[0].destination.ports[0]: 0 is not" in said.out
    assert said.err.startswith("warning: NetworkPolicy shop/zero: spec.ingress[0].destination.ports[0]: 0 is")


def test_what_cannot_be_read_can_be_deleted(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_put(store, "networkpolicies/shop/garbage", b"{"))
    told = explained(capsys, *ALLOWED, "--datastore", store)
    assert told["verdict"] == told["egress"]["verdict"] == "deny"
    assert run(["--datastore", store, "delete", "networkpolicy", "garbage", "-n", "shop"]) == 0
    assert run(["--datastore", store, "delete", "networkpolicy", "garbage", "-n", "shop"]) == 4
    capsys.readouterr()
    assert explained(capsys, *ALLOWED, "--datastore", store)["verdict"] == "allow"
