"""The 48 reachability cases of Kubernetes' suite once more, without packets: what ``tortie policy matrix`` says of the files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.netpol.cases import CASES
from tests.netpol.documents import Document, namespace
from tests.netpol.model import NAMED_PORTS, NODES, Case, Pair, differences
from tests.oracle.judge import Oracle
from tests.oracle.packets import Packet, protocol
from tortie.cli.main import run

ADDRESSES = {
    pod: {4: f"192.168.{number}.7", 6: f"fd00:10:65:{number:x}::7"} for number, pod in enumerate(NODES, 1)
}


def test_no_case_is_missing() -> None:
    assert [case.number for case in CASES] == list(range(1, 49))
    assert all(set(case.all_pods) <= set(NODES) for case in CASES)
    assert all(len(case.all_pods) == len(set(case.all_pods)) for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}: {case.name}")
def test_case(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for documents, expected in _steps(case):
        for version in (4, 6):
            seen = _matrix(tmp_path, documents, expected, version, capsys)
            assert not differences(expected, seen), f"over IPv{version}"


def test_the_oracle_has_the_same_tables() -> None:
    """They are written by hand: whoever wrote the oracle read the same sentences."""
    for case in CASES:
        for documents, expected in _steps(case):
            oracle = Oracle(documents)
            for version in (4, 6):
                seen = {
                    pair: oracle.judge(
                        Packet(
                            ADDRESSES[pair.source][version],
                            ADDRESSES[pair.destination][version],
                            protocol(pair.protocol),
                            40000,
                            pair.port,
                        )
                    ).allowed
                    for pair in expected
                }
                assert not differences(expected, seen), f"{case.number} over IPv{version}"


def _steps(case: Case) -> Iterator[tuple[list[Document], dict[Pair, bool]]]:
    """After each step everything that is stored, and the table."""
    stored = {_key(each): each for each in (*map(namespace, "xyz"), *_pods(case))}
    for step in case.steps:
        stored.update({_key(each): each for each in case.documents(step, ADDRESSES)})
        for name in step.gone:
            within, _, own = name.partition("/")
            del stored["NetworkPolicy", within, own]
        for what, labels in step.labelled.items():
            kind, _, name = what.partition(" ")
            within, _, own = name.rpartition("/")
            stored[kind.capitalize(), within, own]["metadata"]["labels"].update(labels)
        yield list(stored.values()), case.table(step)


def _matrix(
    folder: Path,
    documents: list[Document],
    expected: Mapping[Pair, bool],
    version: int,
    capsys: pytest.CaptureFixture[str],
) -> dict[Pair, bool]:
    (folder / "all.yaml").write_text("\n---\n".join(map(json.dumps, documents)))
    ports = sorted({f"{pair.port}/{pair.protocol.lower()}" for pair in expected})
    options = [word for each in ports for word in ("--port", each)]
    capsys.readouterr()
    ended = run(["policy", "matrix", "-f", str(folder), "--ip-version", str(version), "-o", "json", *options])
    said = capsys.readouterr()
    assert ended == 0, said.err
    return {
        Pair(each["source"], each["destination"], each["protocol"].upper(), int(each["port"])): each[
            "verdict"
        ]
        == "allow"
        for each in json.loads(said.out)["pairs"]
    }


def _key(document: Document) -> tuple[str, str, str]:
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", ""), metadata["name"]


def _pods(case: Case) -> list[Document]:
    ports = [
        {"name": name, "protocol": protocol, "containerPort": number}
        for name, (protocol, number) in NAMED_PORTS.items()
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": within, "labels": {"pod": name}},
            "spec": {"nodeName": NODES[pod], "containers": [{"name": "serve", "ports": ports}]},
            "status": {"podIPs": [{"ip": ip} for ip in ADDRESSES[pod].values()]},
        }
        for pod in case.all_pods
        for within, name in [pod.split("/")]
    ]
