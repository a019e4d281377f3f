"""Policies and what belongs to them, through the commands that a user types, on every datastore."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.commands import Commands, made_in
from tests.contract.datastore_servers import EtcdServer, etcdctl
from tortie.datastore.kv_store import KeyValueStore
from tortie.datastore.store import Store
from tortie.resources.network_policy import NETWORK_POLICY
from tortie.resources.profile import PROFILE
from tortie.resources.resource import ResourceKey
from tortie.resources.source import Source, source_of

POLICY = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: team}
spec:
  order: 10
  selector: app == 'web'
  ingress:
  - action: Allow
    protocol: tcp
    destination: {ports: [80]}
"""
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, labels: {env: prod}}\n"
ENDPOINT = """
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: n-k8s-web-eth0, namespace: team, labels: {app: web, projectcalico.org/namespace: team}}
spec: {orchestrator: k8s, node: n, pod: web, endpoint: eth0, profiles: [kns.team]}
"""
POD = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: team, labels: {app: %s}}}"
KEY = ResourceKey(NETWORK_POLICY, "web", "team")


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "etcd"])
def tortie(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    if request.param == "sqlite":
        return Commands(made_in(tmp_path), tmp_path, capsys)
    server: EtcdServer = request.getfixturevalue("etcd")
    etcdctl(server, "del", "", "--prefix")
    return Commands(f"etcd://{server.endpoint}", tmp_path, capsys)


def source(tortie: Commands) -> Source | None:
    return source_of(tortie.store(lambda store: store.get(KEY)))


def labels_of(tortie: Commands, profile: str) -> dict[str, str]:
    found: dict[str, str] = tortie.document("profile", profile)["spec"]["labelsToApply"]
    return found


def put_raw(tortie: Commands, key: ResourceKey, value: bytes) -> None:
    async def work(store: Store) -> None:
        assert isinstance(store, KeyValueStore)
        await store.keyvalue.commit(expect={}, put={store.layout.path(key): value})

    tortie.store(work)


def test_a_mixed_directory_is_applied_shown_and_deleted(tortie: Commands) -> None:
    folder = tortie.directory / "all"
    (folder / "deep").mkdir(parents=True)
    (folder / "policies.yaml").write_text(
        POLICY
        + textwrap.dedent(
            """
            ---
            apiVersion: projectcalico.org/v3
            kind: GlobalNetworkPolicy
            metadata: {name: guard}
            spec: {tier: security, order: 1.5, selector: all(), types: [Egress], egress: [{action: Pass}]}
            ---
            apiVersion: networking.k8s.io/v1
            kind: NetworkPolicy
            metadata: {name: deny, namespace: team}
            spec: {podSelector: {}}
            """
        )
    )
    (folder / "tier.yml").write_text(
        "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: security}\nspec: {order: 100}\n"
    )
    host = "{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h}, "
    (folder / "deep" / "more.yaml").write_text(
        host
        + textwrap.dedent(
            """\
            spec: {node: n, interfaceName: eth0, expectedIPs: [10.0.0.1, fd00::1]}}
            ---
            apiVersion: projectcalico.org/v3
            kind: NetworkSet
            metadata: {name: nets, namespace: team}
            spec: {nets: [10.0.0.0/8, fd00::/8]}
            ---
            apiVersion: discovery.k8s.io/v1beta1
            kind: EndpointSlice
            metadata: {name: web-1, namespace: team, labels: {kubernetes.io/service-name: web}}
            addressType: IPv4
            endpoints: [{addresses: [10.0.0.9], topology: {kubernetes.io/hostname: n}}]
            ports: [{port: 80}]
            """
        )
    )
    assert tortie("apply", "-f", str(folder)).out == "Successfully applied 4 resource(s)\n"
    assert tortie("apply", "-R", "-f", str(folder)).out == "Successfully applied 7 resource(s)\n"
    assert tortie("get", "np", "-A").rows == [["NAMESPACE", "NAME", "TIER"], ["team", "web", "default"]]
    assert tortie("get", "gnp", "-o", "wide").rows == [
        ["NAME", "TIER", "ORDER", "SELECTOR"],
        ["guard", "security", "1.5", "all()"],
    ]
    assert tortie("get", "tiers").rows == [["NAME", "ORDER"], ["security", "100"]]
    assert tortie("get", "knp", "-n", "team").rows == [["NAME"], ["deny"]]
    assert tortie("get", "hep").rows == [["NAME", "NODE"], ["h", "n"]]
    assert tortie("get", "hep", "-o", "wide").rows[1] == ["h", "n", "eth0", "10.0.0.1,fd00::1"]
    assert tortie("get", "netset", "-n", "team", "-o", "wide").rows[1] == ["nets", "10.0.0.0/8,fd00::/8"]
    slices = tortie.document("endpointslices", "web-1", "-n", "team")
    assert (slices["apiVersion"], slices["endpoints"][0]["nodeName"]) == ("discovery.k8s.io/v1", "n")
    assert "is the tier of GlobalNetworkPolicy guard" in tortie("delete", "tier", "security", code=3).err
    tortie("delete", "-R", "-f", str(folder))
    assert tortie("get", "tiers").err == "No tiers\n"
    assert "is a tier that is built in" in tortie("delete", "tier", "default", code=3).err


def test_a_policy_of_a_tier_that_nobody_made_is_refused(tortie: Commands) -> None:
    ended = tortie.apply(POLICY.replace("order: 10", "tier: security"), code=3)
    place = f"error: {tortie.directory / 'f.yaml'}"
    assert ended.err.startswith(
        f"{place}:6: NetworkPolicy team/web: spec.tier: security is a Tier that does not"
    )


def test_a_file_that_is_no_text_is_one_error_among_others(tortie: Commands) -> None:
    folder = tortie.directory / "mixed"
    folder.mkdir()
    (folder / "a.yaml").write_bytes(b"# \xc3\xa4\nkind: \xff\n")
    (folder / "b.yaml").write_text(textwrap.dedent(POLICY).replace("[80]", "[0]"))
    (folder / "c.yaml").write_bytes(b"\xff\xfek\x00i\x00")
    ended = tortie("validate", "-f", str(folder), code=3)
    assert [line.removeprefix(f"error: {folder}/") for line in ended.err.splitlines()] == [
        "a.yaml:2: (document): is not text in UTF-8",
        "b.yaml:11: NetworkPolicy team/web: spec.ingress[0].destination.ports[0]: 0 is not between 1 and 65535",
        "c.yaml:1: (document): is not text in UTF-8",
    ]
    assert "a.yaml:2" in tortie("apply", "-f", str(folder), code=3).err
    assert tortie("get", "np", "-A").out == ""


def test_what_was_written_is_told_from_the_other_kind_of_that_name(tortie: Commands) -> None:
    theirs = POLICY.partition("spec:")[0].replace("projectcalico.org/v3", "networking.k8s.io/v1")
    theirs += "spec: {podSelector: {}}\n"
    kind = "'KubernetesNetworkPolicy'"
    assert tortie.apply(theirs).out == f"Successfully applied 1 {kind} resource(s)\n"
    assert tortie.apply(POLICY).out == "Successfully applied 1 'NetworkPolicy' resource(s)\n"
    both = tortie.file(theirs + "---" + POLICY)
    assert tortie("apply", "-f", both).out == "Successfully applied 2 resource(s)\n"
    bad = tortie.apply(theirs.replace("{podSelector: {}}", "{podSelector: {}, policyTypes: [In]}"), code=3)
    assert ": KubernetesNetworkPolicy team/web: spec.policyTypes[0]: In " in bad.err
    gone = tortie("delete", "kubernetesnetworkpolicy", "web", "-n", "team")
    assert gone.out == f"Successfully deleted 1 {kind} resource(s)\n"
    none = tortie("get", "kubernetesnetworkpolicy", "web", "-n", "team", code=4)
    assert "KubernetesNetworkPolicy team/web does not exist" in none.err


def test_validate_tells_every_error_of_every_file(tortie: Commands) -> None:
    good = tortie.file(POLICY, "good.yaml")
    assert tortie("validate", "-f", good).out == "Successfully validated 1 'NetworkPolicy' resource(s)\n"
    bad = tortie.file(POLICY.replace("== 'web'", "==").replace("[80]", "[0]"), "bad.yaml")
    worse = tortie.file(POLICY + "---" + POLICY, "twice.yaml")
    ended = tortie("validate", "-f", bad, "-f", good, "-f", worse, code=3)
    assert ended.out == ""
    assert [line.partition("NetworkPolicy team/web: ")[::2] for line in ended.err.splitlines()] == [
        (f"error: {bad}:7: ", "spec.selector: app == has an error at column 7: expected a string in quotes"),
        (f"error: {bad}:11: ", "spec.ingress[0].destination.ports[0]: 0 is not between 1 and 65535"),
        (f"error: {worse}:4: ", f"metadata.name: web stands twice, first at {good}:4"),
        (f"error: {worse}:15: ", f"metadata.name: web stands twice, first at {good}:4"),
    ]
    assert tortie("get", "np", "-n", "team").err == "No networkpolicies in namespace team\n"
    assert "name the files" in tortie("validate", code=2).err


def test_the_source_is_known_until_another_changes_the_spec(tortie: Commands) -> None:
    tortie.apply(POLICY)
    file = str(tortie.directory / "f.yaml")
    assert source(tortie) == Source(file, 2, (9,), ())
    tortie("label", "np", "team/web", "a=b")
    assert source(tortie) == Source(file, 2, (9,), ())
    tortie("patch", "np", "team/web", "-p", '{"spec": {"order": 11}}')
    assert source(tortie) is None
    tortie("patch", "np", "team/web", "-p", '{"spec": {"order": 10}}')
    assert source(tortie) == Source(file, 2, (9,), ())
    tortie.apply("# one more line" + POLICY)
    assert source(tortie) == Source(file, 2, (9,), ())
    tortie("replace", "-f", tortie.file("\n" + POLICY, "other.yaml"))
    assert source(tortie) == Source(str(tortie.directory / "other.yaml"), 3, (10,), ())
    exported = tortie("get", "np", "web", "-n", "team", "-o", "json", "--export").out
    assert "tortie.io/source" not in exported


def test_patch(tortie: Commands) -> None:
    tortie.apply(POLICY)

    def spec(*arguments: str) -> dict[str, Any]:
        out = tortie("patch", "np", "web", "-n", "team", *arguments).out
        assert out == "Successfully patched 1 'NetworkPolicy' resource(s)\n"
        found: dict[str, Any] = tortie.document("np", "web", "-n", "team")["spec"]
        return found

    assert spec("-p", '{"spec": {"order": null, "selector": "all()"}}', "-t", "merge").get("order") is None
    assert spec("-p", "spec: {order: 5}")["order"] == 5
    rule = [{"op": "add", "path": "/spec/ingress/-", "value": {"action": "Deny", "protocol": "udp"}}]
    changed = spec("-t", "json", "-p", json.dumps(rule))
    assert [(each["action"], each["protocol"]) for each in changed["ingress"]] == [
        ("Allow", "TCP"),
        ("Deny", "UDP"),
    ]
    changed = spec("-t", "json", "-p", "- {op: replace, path: /spec/ingress/1/action, value: Pass}")
    assert [each["action"] for each in changed["ingress"]] == ["Allow", "Pass"]
    assert len(spec("-p", '{"spec": {"ingress": [{"action": "Log"}]}}')["ingress"]) == 1
    before = tortie.document("np", "web", "-n", "team")
    for patch, expected, code in (
        ('{"spec": {"selector": "a =="}}', "spec.selector: a == has an error at column 5", 3),
        ('{"spec": {"orderr": 5}}', "spec.orderr: is not a known field", 3),
        ('{"metadata": {"name": "other"}}', "metadata.name: other cannot be changed", 3),
        ('{"kind": "Tier"}', "kind: Tier cannot be changed: it is NetworkPolicy", 3),
        ('{"spec": {"tier": "security"}}', "spec.tier: security is a Tier that does not exist", 3),
        ('{"spec": {"order": "x"}}', "spec.order: x is not a number", 3),
        ("[", "-p is neither JSON nor YAML", 2),
        ("[]", "(patch): is not a mapping of fields", 3),
    ):
        err = tortie("patch", "np", "team/web", "-p", patch, code=code).err
        assert expected in err
        assert ".yaml" not in err
    assert tortie.document("np", "web", "-n", "team") == before
    assert "does not exist" in tortie("patch", "np", "other", "-p", "{}", code=4).err


def test_an_unreadable_policy_can_be_mended_by_apply(tortie: Commands) -> None:
    put_raw(tortie, KEY, b'{"spec": {"selector": 5}}')
    assert "spec.selector: 5 is not a string" in tortie("get", "np", "-n", "team").err
    tortie.apply(POLICY)
    assert tortie.document("np", "web", "-n", "team")["spec"]["selector"] == "app == 'web'"


def test_profiles_follow_their_namespace_and_service_account(tortie: Commands) -> None:
    account = (
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: sa, namespace: team, labels: {role: %s}}}"
    )
    tortie.apply(NAMESPACE + "---\n" + account % "a")
    assert labels_of(tortie, "kns.team") == {
        "pcns.env": "prod",
        "pcns.kubernetes.io/metadata.name": "team",
        "pcns.projectcalico.org/name": "team",
    }
    assert labels_of(tortie, "ksa.team.sa") == {"pcsa.role": "a", "pcsa.projectcalico.org/name": "sa"}
    tortie(
        "replace", "-f", tortie.file(NAMESPACE.replace("env: prod", "env: test") + "---\n" + account % "b")
    )
    assert labels_of(tortie, "kns.team")["pcns.env"] == "test"
    assert labels_of(tortie, "ksa.team.sa")["pcsa.role"] == "b"
    tortie("patch", "ns", "team", "-p", '{"metadata": {"labels": {"env": null, "x": "y"}}}')
    assert labels_of(tortie, "kns.team") == {
        "pcns.x": "y",
        "pcns.kubernetes.io/metadata.name": "team",
        "pcns.projectcalico.org/name": "team",
    }
    tortie("label", "ns", "team", "x", "--remove")
    assert "pcns.x" not in labels_of(tortie, "kns.team")


def test_a_profile_keeps_what_is_its_own(tortie: Commands) -> None:
    profile = "{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: kns.team}, spec: {ingress: "
    tortie.apply(profile + "[{action: Deny}], labelsToApply: {mine: a, pcns.old: b}}}")
    tortie.apply(NAMESPACE)
    found = tortie.document("profile", "kns.team")["spec"]
    assert [rule["action"] for rule in found["ingress"]] == ["Deny"]
    assert (found["labelsToApply"]["mine"], found["labelsToApply"]["pcns.env"]) == ("a", "prod")
    assert "pcns.old" not in found["labelsToApply"]


def test_a_deleted_namespace_leaves_no_labels_behind(tortie: Commands) -> None:
    tortie.apply(NAMESPACE + "---" + ENDPOINT)
    tortie("delete", "ns", "team")
    assert labels_of(tortie, "kns.team") == {"pcns.projectcalico.org/name": "team"}  # its pod still needs it
    tortie("delete", "wep", "n-k8s-web-eth0", "-n", "team")
    tortie.apply(NAMESPACE)
    tortie("delete", "ns", "team")
    keys = tortie.store(_names)
    assert keys == []


async def _names(store: Store) -> list[str]:
    return [each.key.name async for page in store.list(PROFILE) for each in page.updates]


def test_labels_of_an_applied_pod_reach_its_endpoint(tortie: Commands) -> None:
    tortie.apply(ENDPOINT + "---\n" + POD % "web")
    tortie.apply(POD % "db")
    labels = tortie.document("wep", "n-k8s-web-eth0", "-n", "team")["metadata"]["labels"]
    assert labels == {"app": "db", "projectcalico.org/namespace": "team"}


def test_explain_knows_the_services_that_are_stored(tortie: Commands) -> None:
    tortie.apply(
        """
        apiVersion: v1
        kind: Service
        metadata: {name: front, namespace: team}
        spec: {clusterIP: 10.96.0.10, ports: [{port: 80}]}
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: front-1, namespace: team, labels: {kubernetes.io/service-name: front}}
        addressType: IPv4
        endpoints: [{addresses: [10.9.9.9]}]
        ports: [{port: 8080}]
        """
    )
    asked = ("policy", "explain", "--from", "192.0.2.1", "--to", "10.96.0.10", "--port", "80/tcp")
    told = tortie(*asked, code=2).err
    assert told.startswith("error: --to 10.96.0.10 is the cluster IP of service team/front; ")
    assert told.endswith("ask for one of its backends: 10.9.9.9 --port 8080/tcp\n")
