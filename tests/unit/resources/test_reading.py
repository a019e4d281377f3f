"""What users write: positions, several documents, Lists, and everything that is wrong at once."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.errors import InvalidDocument
from tortie.resources import documents
from tortie.resources.documents import parse
from tortie.resources.reading import read, refuse_duplicates

POOL = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata:
  name: a
spec:
  cidr: 10.0.0.0/16
"""


def messages(text: str, **options: bool) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        read(text, "f.yaml", **options)  # type: ignore[arg-type]
    return str(caught.value).splitlines()


def test_a_pool() -> None:
    (pool,) = read(POOL, "f.yaml")
    assert (pool.key.name, pool.spec.block_size, str(pool.origin)) == ("a", 26, "f.yaml:1")


def test_several_documents_and_lists() -> None:
    text = f"# nothing\n---\n{POOL}---\n\n---\nkind: List\napiVersion: v1\nitems:\n"
    text += "- {apiVersion: v1, kind: Namespace, metadata: {name: x}}\n"
    text += "- kind: IPPoolList\n  items:\n  - apiVersion: projectcalico.org/v3\n    kind: IPPool\n"
    text += "    metadata: {name: b}\n    spec: {cidr: 10.1.0.0/16}\n"
    found = read(text, "f.yaml")
    assert [(str(each.key), each.origin and each.origin.line) for each in found] == [
        ("IPPool a", 3),
        ("Namespace x", 15),
        ("IPPool b", 18),
    ]


@pytest.mark.parametrize("head", ["kind: List\nitems:\n", ""])
def test_fields_of_items_know_their_lines(head: str) -> None:
    """Item 1 is not item 11, and a field is named from its own item."""
    text = head + "".join(f"- kind: K{n}\n  spec:\n    nets:\n    - a\n    - b\n" for n in range(12))
    first = head.count("\n") + 1
    for number, document in enumerate(parse(text, "f.yaml")):
        start = first + 5 * number
        assert document.line == start
        assert document.lines == {
            "kind": start,
            "spec": start + 1,
            "spec.nets": start + 2,
            "spec.nets[0]": start + 3,
            "spec.nets[1]": start + 4,
        }


def test_everything_wrong_is_said_with_its_line() -> None:
    text = POOL.replace("10.0.0.0/16", "10.0.0.1/16\n  blockSize: 33\n  colour: red\n  nodeSelector: has(")
    text += "---\nkind: Node\napiVersion: projectcalico.org/v3\nmetadata: {name: n, labels: {a: 1}}\nspec: {bgp: [1]}\n"
    text += "---\nkind: Pool\napiVersion: v1\n---\nkind: IPPool\napiVersion: v1\n---\n- 1\n---\n{}\n"
    text += "---\nkind: IPAMHandle\napiVersion: projectcalico.org/v3\n"
    found = messages(text)
    assert [line.partition("; ")[0] if "Pool is not a kind" not in line else line[:40] for line in found] == [
        "f.yaml:6: IPPool a: spec.cidr: 10.0.0.1/16 has bits beyond its prefix length",
        "f.yaml:7: IPPool a: spec.blockSize: 33 is not between 20 and 32",
        "f.yaml:8: IPPool a: spec.colour: is not a known field",
        "f.yaml:9: IPPool a: spec.nodeSelector: has( has an error at column 5: expected a label",
        "f.yaml:13: Node n: metadata.labels.a: 1 is not a string: write it in quotes",
        "f.yaml:14: Node n: spec.bgp: is not a mapping",
        "f.yaml:16: kind: Pool is not a kind that",
        "f.yaml:20: apiVersion: v1 is not the version of IPPool, which is projectcalico.org/v3",
        "f.yaml:22: (document): 1 is not a mapping of fields".replace("1 is", "is"),
        "f.yaml:24: apiVersion: is required",
        "f.yaml:24: kind: is required",
        "f.yaml:26: kind: IPAMHandle is kept by IPAM",
    ]
    (kinds,) = [line.partition("Tortie has: ")[2].split(", ") for line in found if "is not a kind" in line]
    assert {"IPPool", "NetworkPolicy", "Pod"} < set(kinds)
    assert len(kinds) == len(set(kinds))


def test_unknown_fields_at_every_depth() -> None:
    text = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata:\n  name: n\n  colour: red\nspec:\n  bgp:\n    asn: 1\n"
    text += "  addresses:\n  - address: 10.0.0.1\n    colour: red\nstate: {}\n"
    assert messages(text) == [
        "f.yaml:5: Node n: metadata.colour: is not a known field",
        "f.yaml:8: Node n: spec.bgp.asn: is not a known field",
        "f.yaml:11: Node n: spec.addresses[0].colour: is not a known field",
        "f.yaml:12: Node n: state: is not a known field",
    ]
    (node,) = read(text, "f.yaml", allow_unknown=True)
    assert node.unknown[("spec", "addresses", 0, "colour")] == "red"


def test_fields_that_are_only_carried_are_known() -> None:
    text = "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\n"
    (found,) = read(text + "spec: {bpfLogLevel: Debug, healthPort: 9099}\n", "f.yaml")
    assert (found.unknown, found.spec.health_port) == ({("spec", "bpfLogLevel"): "Debug"}, 9099)
    assert messages(text + "spec: {bpfLogLevle: Debug}\n") == [
        "f.yaml:4: FelixConfiguration default: spec.bpfLogLevle: is not a known field"
    ]


def test_kubernetes_own_fields_are_no_mistake() -> None:
    text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{image: x}], restartPolicy: Always}\n"
    (pod,) = read(text, "f.yaml", namespace="team")
    assert pod.key.within == "team"


def test_what_cannot_be_read_hides_nothing_else() -> None:
    """Of the documents before and after it; a key that is given twice not even of its own."""
    wrong = POOL.replace("10.0.0.0/16", "10.0.0.1/16")
    twice = POOL.replace("name: a", "name: b\n  name: c\n  labels: {x: !!binary aGk=, y: .inf}").replace(
        "0.0/16", "0/33"
    )
    text = f"{wrong}---\n{twice}---\n{wrong}  cidr: 10.0.0.2/16\n---\n{wrong}---\nspec: [\n"
    assert [each[:60] for each in messages(text)] == [
        "f.yaml:6: IPPool a: spec.cidr: 10.0.0.1/16 has bits beyond i",
        "f.yaml:12: metadata.name: is given twice",
        "f.yaml:13: metadata.labels.x: is binary, and no field is",
        "f.yaml:13: metadata.labels.y: is not a finite number",
        "f.yaml:23: spec.cidr: is given twice",
        "f.yaml:23: IPPool a: spec.cidr: 10.0.0.2/16 has bits beyond ",
        "f.yaml:30: IPPool a: spec.cidr: 10.0.0.1/16 has bits beyond ",
        "f.yaml:33: (document): is not YAML: expected the node conten",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: [\n", "f.yaml:3: (document): is not YAML: "),
        ("a: 1\na: 2\n", "f.yaml:2: a: is given twice"),
        ("x:\n- b: {c: 1, c: 2}\n", "f.yaml:2: x[0].b.c: is given twice"),
        ("\tx: 1\n", "f.yaml:1: (document): is not YAML: "),
        ("? [a]\n: 1\n", "f.yaml:1: (document): has a key that is not a word"),
        ("a: !!binary aGk=\n", "f.yaml:1: a: is binary, and no field is"),
        ("a: .nan\n", "f.yaml:1: a: is not a finite number"),
        ('{"a": 1,\n\t"a": 2}', "f.yaml:2: a: is given twice"),
        ('{"a": 1,\n\t"a"', "f.yaml: (document): is not JSON: "),
        ("a: &x [*x]\n", "f.yaml: (document): is not YAML: it is nested too deeply"),
        ("[" * 3000, "f.yaml: (document): is not YAML: it is nested too deeply"),
        ("a: \x00", "f.yaml: (document): is not YAML: "),
        ('\t{"a":' + "[" * 100000, "f.yaml: (document): is not JSON: it is nested too deeply"),
        ('\t{"a": NaN}', "f.yaml: (document): is not JSON: NaN is no number"),
        (
            '\t{"a": ' + "9" * 5000 + "}",
            "f.yaml: (document): is not JSON: 99999999999999999999… has more than 64 bits",
        ),
        ('\t{"a": ["\\ud800"]}', r"f.yaml: (document): is not JSON: it holds \ud800, half a character"),
        ('\na: ["\\ud800"]', r"f.yaml:2: a[0]: holds \ud800, half a character"),
        ('\na: {"x\\udc00": 1}', r"f.yaml:2: a: has a key that holds \udc00, half a character"),
        ("\na: " + "9" * 5000, "f.yaml:2: a: is a number of more than 64 bits"),
        ("\na: -9223372036854775809", "f.yaml:2: a: is a number of more than 64 bits"),
        ("\na: 0x" + "f" * 17, "f.yaml:2: a: is a number of more than 64 bits"),
        ("[" + "a," * 60, "f.yaml: (document): holds more than 50 values"),
    ],
)
def test_what_is_not_yaml(text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "50 values" in expected:
        monkeypatch.setattr(documents, "MAX_VALUES", 50)
    with pytest.raises(InvalidDocument) as caught:
        parse(text, "f.yaml")
    assert str(caught.value).startswith(expected)


def test_aliases_that_multiply_are_refused() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    text += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 8))
    with pytest.raises(InvalidDocument, match="more than 1000000 values"):
        parse(text, "f.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 0x1f", 31),
        ("a: 010", 10),
        ("a: 1_000", 1000),
        ("a: 1.5", 1.5),
        ("a: yes", "yes"),
        ("a: true", True),
        ("a: ~", None),
        ("a: 2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("a: '1'", "1"),
        ("b: &x {c: 1, d: 2}\na:\n  <<: *x\n  d: 3", {"c": 1, "d": 3}),
        ("a: |\n  x\n  y\n", "x\ny\n"),
    ],
)
def test_values(text: str, value: object) -> None:
    assert parse(text, "f")[0].value["a"] == value


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs"))),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text("abc.-/", min_size=1, max_size=4), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_json_reads_as_itself(value: object) -> None:
    (document,) = parse(json.dumps({"a": value}, indent=2), "f.json")
    assert document.value == {"a": value}


def test_json_with_tabs() -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}, indent="\t")
    assert [str(each.key) for each in read(text, "f.json")] == ["Namespace x"]


def test_what_stands_twice() -> None:
    with pytest.raises(
        InvalidDocument, match=r"f.yaml:11: IPPool a: metadata.name: a stands twice, first at f.yaml:4"
    ):
        refuse_duplicates(read(f"{POOL}---\n{POOL}", "f.yaml"))


def test_what_a_bare_kind_cannot_hold() -> None:
    text = "apiVersion: projectcalico.org/v3\nkind: IPAMConfiguration\nmetadata: {name: default, labels: {a: b}}\n"
    assert messages(text) == [
        "f.yaml:3: IPAMConfiguration default: metadata.labels: cannot be stored with a IPAMConfiguration"
    ]
    text = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: n, namespace: x}\n"
    assert messages(text) == [
        "f.yaml:3: Node n: metadata.namespace: x is given, but a Node is in no namespace"
    ]


def test_a_wrong_type_hides_no_other_mistake() -> None:
    with pytest.raises(InvalidDocument) as raised:
        read(
            """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: UPPER}
spec:
  order: first
  selector: a ==
  ingress:
  - action: 5
    protocol: TCP
    destination: {ports: [0]}
  - action: Maybe
    later: 1
""",
            "f.yaml",
        )
    found = [str(each).removeprefix("f.yaml:").partition(": ")[::2] for each in raised.value.findings]
    key = "NetworkPolicy default/UPPER: "
    assert [(line, text.removeprefix(key).removeprefix("NetworkPolicy UPPER: ")) for line, text in found] == [
        (
            "4",
            (
                "metadata.name: UPPER is not a name: at most 253 small letters, digits, '-' and '.', a letter or digit "
                "at each end of a part"
            ),
        ),
        ("6", "spec.order: first is not a number"),
        ("7", "spec.selector: a == has an error at column 5: expected a string in quotes"),
        ("9", "spec.ingress[0].action: 5 is not a string"),
        ("11", "spec.ingress[0].destination.ports[0]: 0 is not between 1 and 65535"),
        ("12", "spec.ingress[1].action: Maybe is not one of Allow, Deny, Log, Pass"),
        ("13", "spec.ingress[1].later: is not a known field"),
    ]


def test_what_may_follow_from_a_wrong_type_is_not_told() -> None:
    """Ports need a protocol, and one stands there; what is wrong with a value by itself is told."""
    text = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: a, namespace: shop}
spec:
  ingress:
  - action: Allow
    protocol: [TCP]
    source: {nets: [10.0.0.0/33], selector: "a b"}
    destination: {ports: [80]}
"""
    assert [each.partition(" has ")[0] for each in messages(text)] == [
        "f.yaml:8: NetworkPolicy shop/a: spec.ingress[0].protocol: is not an integer or a string",
        "f.yaml:9: NetworkPolicy shop/a: spec.ingress[0].source.selector: a b",
        "f.yaml:9: NetworkPolicy shop/a: spec.ingress[0].source.nets[0]: 10.0.0.0/33 is not an address with a prefix length",
    ]
