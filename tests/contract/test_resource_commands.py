"""``tortie apply|create|replace|delete|get|label`` as a user types them, on every datastore."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.contract.commands import Commands, made_in
from tests.contract.datastore_servers import EtcdServer, etcdctl
from tortie.datastore.store import Store
from tortie.resources import codec, registry
from tortie.resources.allocation_block import AllocationBlockSpec, BlockAttribute, block_key
from tortie.resources.documents import parse
from tortie.resources.ip_pool import IP_POOL
from tortie.resources.resource import Resource, ResourceKey

T = TypeVar("T")
TORTIE = Path(sys.executable).parent / "tortie"

POOL = """
    apiVersion: projectcalico.org/v3
    kind: IPPool
    metadata:
      name: {name}
    spec:
      cidr: {cidr}
      natOutgoing: true
    ---
"""
ENDPOINT = """
    apiVersion: projectcalico.org/v3
    kind: WorkloadEndpoint
    metadata:
      name: node1-k8s-web-eth0
      namespace: team
      labels: {app: web, projectcalico.org/namespace: team}
    spec:
      orchestrator: k8s
      node: node1
      pod: web
      endpoint: eth0
      ipNetworks: [10.0.0.1/32]
      interfaceName: cali0123
      profiles: [kns.team]
"""


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "etcd"])
def tortie(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    if request.param == "sqlite":
        url = made_in(tmp_path)
    else:
        server: EtcdServer = request.getfixturevalue("etcd")
        etcdctl(server, "del", "", "--prefix")
        url = f"etcd://{server.endpoint}"
    return Commands(url, tmp_path, capsys)


def pool(name: str = "a", cidr: str = "10.0.0.0/16") -> str:
    return POOL.format(name=name, cidr=cidr)


@pytest.mark.parametrize("question", ["get pools", "policy matrix --port 80", "ipam show", "delete pool a"])
def test_who_asks_makes_no_datastore(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], question: str
) -> None:
    path = tmp_path / "mistyped" / "t.db"
    tortie = Commands(f"sqlite://{path}", tmp_path, capsys)
    assert f"there is no datastore at {path}" in tortie(*question.split(), code=2).err
    assert not path.parent.exists()
    tortie.apply(pool())
    assert tortie("get", "pools").rows


def test_apply_creates_and_then_replaces(tortie: Commands) -> None:
    assert tortie.apply(pool()).out == "Successfully applied 1 'IPPool' resource(s)\n"
    first = tortie.document("pool", "a")
    assert first["spec"]["blockSize"] == 26
    tortie.apply(pool().replace("true", "false"))
    second = tortie.document("pool", "a")
    assert "natOutgoing" not in second["spec"]
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert second["metadata"]["creationTimestamp"] == first["metadata"]["creationTimestamp"]
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]


def test_applying_the_same_again_writes_nothing(tortie: Commands) -> None:
    tortie.apply(pool())
    before = tortie.document("pool", "a")
    tortie.apply(pool())
    assert tortie.document("pool", "a") == before


def test_create_and_replace_say_what_is_there_already_or_not(tortie: Commands) -> None:
    file = tortie.file(pool())
    assert tortie("replace", "-f", file, code=4).err == "error: IPPool a does not exist\n"
    assert tortie("create", "-f", file).out == "Successfully created 1 'IPPool' resource(s)\n"
    assert tortie("create", "-f", file, code=5).err == "error: IPPool a exists already\n"
    assert tortie("replace", "-f", file).out == "Successfully replaced 1 'IPPool' resource(s)\n"
    both = tortie.file(pool() + pool("b", "10.1.0.0/16"))
    tortie("create", "-f", both, code=5)
    assert tortie("get", "pools", "-o", "name").out == "ippool.projectcalico.org/a\n"
    ended = tortie("create", "-f", both, "--skip-exists")
    assert ended.out == "Successfully created 1 'IPPool' resource(s)\nSkipped 1 that existed already\n"


def test_bad_input_changes_nothing(tortie: Commands) -> None:
    good, bad = pool(), pool("b", "10.1.0.0/16").replace("natOutgoing", "blockSize: 33\n      natOutgoin")
    ended = tortie.apply(good + bad, code=3)
    file = tortie.directory / "f.yaml"
    assert ended.err.splitlines() == [
        f"error: {file}:17: IPPool b: spec.blockSize: 33 is not between 20 and 32",
        f"error: {file}:18: IPPool b: spec.natOutgoin: is not a known field",
    ]
    assert tortie("get", "pools").err == "No ippools\n"


def test_overlaps_are_refused_naming_both(tortie: Commands) -> None:
    tortie.apply(pool())
    tortie.apply("""
        apiVersion: projectcalico.org/v3
        kind: Node
        metadata: {name: node1}
        spec: {bgp: {ipv4Address: 172.30.0.11/24}}
    """)
    ended = tortie.apply(
        pool("b", "10.0.1.0/24") + pool("c", "172.16.0.0/12") + pool("d", "10.0.0.0/8"), code=3
    )
    file = tortie.directory / "f.yaml"
    assert ended.err.splitlines() == [
        f"error: {file}:7: IPPool b: spec.cidr: 10.0.1.0/24 overlaps IPPool a (10.0.0.0/16)",
        f"error: {file}:7: IPPool b: spec.cidr: 10.0.1.0/24 overlaps IPPool d (10.0.0.0/8)",
        f"error: {file}:16: IPPool c: spec.cidr: 172.16.0.0/12 overlaps the network of Node node1 (172.30.0.11/24)",
        f"error: {file}:25: IPPool d: spec.cidr: 10.0.0.0/8 overlaps IPPool a (10.0.0.0/16)",
        f"error: {file}:25: IPPool d: spec.cidr: 10.0.0.0/8 overlaps IPPool b (10.0.1.0/24)",
    ]
    assert len(tortie("get", "pools").rows) == 2


def test_what_may_not_change(tortie: Commands) -> None:
    tortie.apply(pool())
    ended = tortie.apply(pool(cidr="10.0.0.0/17"), code=3)
    assert (
        ":7: IPPool a: spec.cidr: 10.0.0.0/17 differs from the stored 10.0.0.0/16, and cannot change: make a new pool"
        in ended.err
    )


def test_unknown_fields_and_annotations_survive_an_apply(tortie: Commands) -> None:
    extra = pool().replace("natOutgoing", "later: {x: 1}\n      natOutgoing")
    assert "spec.later: is not a known field" in tortie.apply(extra, code=3).err
    tortie.apply(
        extra.replace("name: a", "name: a\n      annotations: {by: me}\n      labels: {x: '1'}"),
        "--allow-unknown",
    )
    tortie.apply(pool().replace("true", "false"))
    found = tortie.document("pool", "a")
    assert found["spec"]["later"] == {"x": 1}
    assert found["metadata"]["annotations"] == {"by": "me"}
    assert "labels" not in found["metadata"]
    tortie("replace", "-f", tortie.file(pool()))
    found = tortie.document("pool", "a")
    assert found["spec"]["later"] == {"x": 1}
    assert "annotations" not in found["metadata"]


def test_a_resource_version_in_the_file_must_be_the_stored_one(tortie: Commands) -> None:
    tortie.apply(pool())
    mine = tortie("get", "pool", "a", "-o", "yaml").out
    tortie.apply(mine.replace("natOutgoing: true", "disabled: true"))
    ended = tortie.apply(mine, code=6)
    assert ended.err == "error: IPPool a was changed by someone else meanwhile\n"
    assert tortie.document("pool", "a")["spec"]["disabled"] is True


def test_a_file_is_given_back_as_it_came(tortie: Commands) -> None:
    tortie.apply(ENDPOINT)
    printed = tortie("get", "wep", "-n", "team", "node1-k8s-web-eth0", "-o", "yaml", "--export").out
    (given,), (found,) = parse(textwrap.dedent(ENDPOINT), "given"), parse(printed, "found")
    assert found.value == given.value


def test_get_of_several_kinds(tortie: Commands) -> None:
    tortie.apply(pool() + pool("b", "10.9.0.0/16") + ENDPOINT)
    shown = tortie("get", "ippools,wep", "-n", "team").out.split("\n\n")
    assert [table.split()[0] for table in shown] == ["NAME", "WORKLOAD"]
    assert [len(table.splitlines()) for table in shown] == [3, 2]
    assert tortie("get", "wep,ipp,wep", "-n", "team", "-o", "name").out.splitlines() == [
        "workloadendpoint.projectcalico.org/node1-k8s-web-eth0",
        "ippool.projectcalico.org/a",
        "ippool.projectcalico.org/b",
    ]
    assert tortie.document("ippools,wep", "-n", "team")["kind"] == "List"
    assert tortie("get", "wep,tier").err == "No workloadendpoints, tiers in namespace default\n"
    assert "there is no kind 'pod/a'" in tortie("get", "ipp,pod/a", code=2).err
    assert tortie("get", "ipp,wep", "a", "-n", "team", code=4).err.startswith(
        "error: WorkloadEndpoint team/a"
    )


def test_get_forms(tortie: Commands) -> None:
    tortie.apply(pool() + pool("b", "fd00:1::/64"))
    assert tortie("get", "ippool").rows == [
        ["NAME", "CIDR", "SELECTOR"],
        ["a", "10.0.0.0/16", "all()"],
        ["b", "fd00:1::/64", "all()"],
    ]
    assert tortie("get", "ippool", "a", "-o", "ps").rows[1:] == [["a", "10.0.0.0/16", "all()"]]
    assert tortie("get", "ippool/b", "-o", "wide").rows == [
        "NAME CIDR NAT IPIPMODE VXLANMODE DISABLED DISABLEBGPEXPORT SELECTOR ASSIGNMENTMODE".split(),
        "b fd00:1::/64 true Never Never false false all() Automatic".split(),
    ]
    listed = tortie.document("ippools")
    assert (listed["kind"], listed["apiVersion"]) == ("IPPoolList", "projectcalico.org/v3")
    assert [each["metadata"]["name"] for each in listed["items"]] == ["a", "b"]
    assert tortie("get", "ippools", "a", "c", code=4).err == "error: IPPool c does not exist\n"
    assert "there is no kind 'thing'" in tortie("get", "thing", code=2).err
    assert "name a kind" in tortie("get", code=2).err
    assert (
        tortie("get", "-f", tortie.file(pool("b", "fd00:1::/64")), "-o", "name").out
        == "ippool.projectcalico.org/b\n"
    )


def test_namespaces(tortie: Commands) -> None:
    tortie.apply(ENDPOINT)
    assert tortie("get", "wep").err == "No workloadendpoints in namespace default\n"
    assert tortie("get", "wep", "-n", "team").rows == [
        ["WORKLOAD", "NODE", "NETWORKS", "INTERFACE"],
        ["web", "node1", "10.0.0.1/32", "cali0123"],
    ]
    wide = tortie("get", "wep", "-A", "-o", "wide").rows
    assert wide[0] == "NAMESPACE NAME WORKLOAD NODE NETWORKS INTERFACE PROFILES NATS".split()
    assert wide[1][:3] == ["team", "node1-k8s-web-eth0", "web"]
    tortie.apply("{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {image: x}}", "-n", "other")
    assert tortie("get", "pods", "-n", "other", "-o", "name").out == "pod/p\n"


def test_several_files_folders_and_standard_input(tortie: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tortie.directory / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.yaml").write_text(textwrap.dedent(pool()))
    (folder / "notes.txt").write_text("not yaml: [")
    (folder / "deep/b.json").write_text(
        json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})
    )
    assert tortie("apply", "-f", str(folder)).out == "Successfully applied 1 'IPPool' resource(s)\n"
    assert tortie("apply", "-R", "-f", str(folder)).out == "Successfully applied 2 resource(s)\n"
    import io

    def typed(text: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))

    typed(textwrap.dedent(pool("c", "10.9.0.0/16")).encode())
    assert tortie("create", "-f", "-", "-o", "name").out == "ippool.projectcalico.org/c\n"
    typed(b"kind: \xff\n")
    refused = tortie("create", "-f", "-", code=3).err
    assert refused == "error: (stdin):1: (document): is not text in UTF-8\n"
    assert "-f is given an empty name" in tortie("create", "-f", "", code=2).err
    assert "/dev/zero: (document): is larger than 32 MiB" in tortie("create", "-f", "/dev/zero", code=3).err
    assert "/nowhere.yaml: No such file or directory" in tortie("apply", "-f", "/nowhere.yaml", code=2).err
    assert "there is no resource in" in tortie.apply("# nothing\n", code=2).err
    assert "name the files: tortie apply -f FILE" in tortie("apply", code=2).err


def test_delete(tortie: Commands) -> None:
    tortie.apply(pool() + ENDPOINT)
    file = tortie.file(pool())
    assert "delete ippools NAME" in tortie("delete", "pools", code=2).err
    assert tortie("delete", "pool", "a", "b", code=4).err == "error: IPPool b does not exist\n"
    assert tortie("delete", "-f", file).out == "Successfully deleted 1 'IPPool' resource(s)\n"
    assert tortie("delete", "-f", file, code=4).err == "error: IPPool a does not exist\n"
    assert tortie("delete", "-f", file, "--skip-not-exists").out == "Successfully deleted 0 resource(s)\n"
    ended = tortie("delete", "wep", "-n", "team", "node1-k8s-web-eth0", "-o", "name")
    assert ended.out == "workloadendpoint.projectcalico.org/node1-k8s-web-eth0\n"


def test_a_pool_in_use_is_marked_and_not_deleted(tortie: Commands) -> None:
    tortie.apply(pool())
    spec = AllocationBlockSpec(
        cidr="10.0.0.0/26",
        affinity="host:node1",
        allocations=(0, *[None] * 63),
        unallocated=tuple(range(1, 64)),
        attributes=(BlockAttribute(handle_id="h", secondary={}),),
    )
    block = Resource(key=block_key("10.0.0.0/26"), spec=spec)
    tortie.store(lambda store: store.create(block))
    ended = tortie("delete", "pool", "a")
    assert "IPPool a is in use: it is terminating" in ended.err
    found = tortie.document("pool", "a")
    assert [(c["type"], c["status"], c["reason"]) for c in found["status"]["conditions"]] == [
        ("Allocatable", "False", "Terminating")
    ]
    assert found["metadata"]["deletionTimestamp"]
    tortie.apply(pool().replace("true", "false"))
    assert tortie.document("pool", "a")["metadata"]["deletionTimestamp"]
    tortie.store(lambda store: store.delete(block.key))
    assert tortie("delete", "pool", "a").err == ""
    assert tortie("get", "pools").err == "No ippools\n"


def test_labels_of_a_pod_reach_its_endpoint(tortie: Commands) -> None:
    tortie.apply(
        ENDPOINT
        + "---\n{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: team, labels: {app: web, old: x}}}"
    )
    ended = tortie("label", "pod", "team/web", "app=db", "tier=back", "old-")
    assert ended.out == "Pod team/web labelled: app=db,tier=back\n"
    assert tortie.document("pod", "web", "-n", "team")["metadata"]["labels"] == {"app": "db", "tier": "back"}
    endpoint = tortie.document("wep", "node1-k8s-web-eth0", "-n", "team")
    assert endpoint["metadata"]["labels"] == {
        "app": "db",
        "tier": "back",
        "projectcalico.org/namespace": "team",
    }
    assert "is not a label's value" in tortie("label", "pod", "team/web", "a=b c", code=3).err
    assert "neither KEY=VALUE nor KEY-" in tortie("label", "pod", "team/web", "a", code=2).err
    assert tortie("label", "pod", "other", "a=b", code=4).err == "error: Pod default/other does not exist\n"


def test_labels_of_a_namespace_reach_its_profile(tortie: Commands) -> None:
    tortie.apply("""
        {apiVersion: v1, kind: Namespace, metadata: {name: team}}
        ---
        apiVersion: projectcalico.org/v3
        kind: Profile
        metadata: {name: kns.team}
        spec: {labelsToApply: {pcns.projectcalico.org/name: team}}
    """)
    tortie("label", "namespace", "team", "env=prod")
    assert tortie.document("profile", "kns.team")["spec"]["labelsToApply"] == {
        "pcns.projectcalico.org/name": "team",
        "pcns.kubernetes.io/metadata.name": "team",
        "pcns.env": "prod",
    }
    tortie("label", "ns", "team", "env-")
    assert "pcns.env" not in tortie.document("profile", "kns.team")["spec"]["labelsToApply"]
    assert "is in no namespace: write team" in tortie("label", "ns", "x/team", "a=b", code=2).err


def test_the_ipam_configuration_is_the_one_that_allocation_reads(tortie: Commands) -> None:
    tortie.apply("""
        apiVersion: projectcalico.org/v3
        kind: IPAMConfiguration
        metadata: {name: default}
        spec: {strictAffinity: true, maxBlocksPerHost: 4}
    """)
    assert tortie("get", "ipamconfig", "-o", "wide").rows == [
        "NAME STRICTAFFINITY AUTOALLOCATEBLOCKS MAXBLOCKSPERHOST".split(),
        "default true true 4".split(),
    ]


def test_every_kind_for_users_comes_back(tortie: Commands) -> None:
    specs: dict[str, dict[str, Any]] = {
        "IPPool": {"cidr": "10.0.0.0/16"},
        "WorkloadEndpoint": {"orchestrator": "k8s", "node": "n", "pod": "p", "endpoint": "eth0"},
        "BGPPeer": {"peerIP": "10.1.1.1", "asNumber": 64513},
        "BlockAffinity": {"node": "n", "cidr": "10.0.0.0/26", "type": "host", "state": "confirmed"},
        "HostEndpoint": {"node": "n", "interfaceName": "*"},
        "EndpointSlice": {"addressType": "IPv4", "endpoints": [], "ports": []},
    }
    names = {"WorkloadEndpoint": "n-k8s-p-eth0", "BlockAffinity": "10.0.0.0-26", "Tier": "security"}
    kinds = [info for info in registry.KINDS if info.for_users]
    items = [
        {
            "apiVersion": info.api_version,
            "kind": info.kind.name,
            "metadata": {"name": names.get(info.kind.name, "default")},
            **(specs.get(info.kind.name, {}) if info.rooted else {"spec": specs.get(info.kind.name, {})}),
        }
        for info in kinds
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    assert tortie.apply(text).out == f"Successfully applied {len(kinds)} resource(s)\n"
    for info in kinds:
        name = names.get(info.kind.name, "default")
        reference = tortie("get", info.words[0], name, "-o", "name").out
        assert reference.endswith(f"/{name}\n")
        assert tortie("get", reference.strip(), "-o", "name").out == reference
        found = codec.decode(info, tortie.document(info.words[0], name))
        assert info.validate(found) == []
    assert tortie("delete", "-f", str(tortie.directory / "f.yaml")).out.startswith("Successfully deleted")
    for info in kinds:
        assert tortie("get", info.words[0], "-o", "name").out == ""


def test_another_writer_between_read_and_write_is_no_loss(tortie: Commands) -> None:
    """Two at once, many times: each apply is whole, and none fails."""
    environment = {**os.environ, "TORTIE_DATASTORE": tortie.url}
    tortie.apply(pool())
    files = [tortie.file(pool().replace("true", value), f"{value}.yaml") for value in ("true", "false")]
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen([TORTIE, "apply", "-f", files[index % 2]], env=environment, stdout=pipe, stderr=pipe)
        for index in range(6)
    ]
    for each in running:
        out, err = each.communicate(timeout=60)
        assert (each.returncode, err) == (0, b""), out
    assert tortie.document("pool", "a")["spec"].get("natOutgoing") in (True, None)


def test_the_environment_and_the_file_choose_too(tortie: Commands) -> None:
    tortie.apply(pool())
    config = tortie.file(f'datastore = "{tortie.url}"\n', "tortie.toml")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TORTIE_")}
    for more, arguments in (
        ({"TORTIE_DATASTORE": tortie.url}, []),
        ({"TORTIE_CONFIG": config}, []),
        ({}, ["--config", config]),
        ({"TORTIE_DATASTORE": "sqlite:////nowhere/x.db"}, ["--datastore", tortie.url]),
    ):
        command = [str(TORTIE), "get", "pools", "-o", "name", *arguments]
        ended = subprocess.run(command, env={**plain, **more}, capture_output=True, text=True, check=True)
        assert ended.stdout == "ippool.projectcalico.org/a\n"


def test_an_unreadable_resource_is_named_and_the_others_shown(tortie: Commands) -> None:
    tortie.apply(pool())
    key = ResourceKey(IP_POOL, "broken")

    async def spoil(store: Store) -> None:
        from tortie.datastore.kv_store import KeyValueStore

        assert isinstance(store, KeyValueStore)
        await store.keyvalue.commit(expect={}, put={store.layout.path(key): b"{"})

    tortie.store(spoil)
    ended = tortie("get", "pools")
    assert ended.rows[1:] == [["a", "10.0.0.0/16", "all()"]]
    assert ended.err.startswith("warning: IPPool broken: (document): is not JSON")
    assert tortie("get", "pool", "broken", code=3).err.startswith(
        "error: IPPool broken: (document): is not JSON"
    )
