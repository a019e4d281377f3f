"""Whatever a file holds, it is taken or refused with reasons; and what was taken is stored and read back as it is."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tortie.errors import InvalidDocument
from tortie.resources import codec, registry
from tortie.resources.kind_info import KindInfo
from tortie.resources.reading import read
from tortie.resources.resource import Put, Resource
from tortie.resources.shape import Shape, shape_of
from tortie.resources.source import source_of
from tortie.resources.taking import POLICIES, taken

KINDS = [info for info in registry.KINDS if info.for_users and not info.bare]
PLAIN: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70000),
    st.sampled_from(
        [
            "",
            "a",
            "a == 'b'",
            "all()",
            "global()",
            "10.0.0.0/8",
            "fd00::1",
            "TCP",
            "icmp",
            "Allow",
            "Ingress",
            "80",
            "1:9",
        ]
    ),
    st.lists(st.sampled_from(["a", "10.0.0.0/8", 80, "http", "Egress"]), max_size=2),
    st.dictionaries(st.sampled_from("ab"), st.sampled_from(["x", 5]), max_size=2),
)


def specs(shape: Shape) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with the fields of a spec, many of them wrong."""
    fields: dict[str, st.SearchStrategy[Any]] = dict.fromkeys([*shape.names, "unheardOf"], PLAIN)
    for name, inner in shape.single:
        fields[name] = PLAIN | specs(inner)
    for name, inner in shape.listed:
        fields[name] = PLAIN | st.lists(specs(inner), max_size=2)
    return st.lists(st.sampled_from(sorted(fields)), unique=True, max_size=4).flatmap(
        lambda names: st.fixed_dictionaries({name: fields[name] for name in names})
    )


def documents(info: KindInfo) -> st.SearchStrategy[dict[str, Any]]:
    def document(spec: dict[str, Any]) -> dict[str, Any]:
        body = {"apiVersion": info.api_version, "kind": info.kind.name, "metadata": {"name": "n"}}
        return {**spec, **body} if info.rooted else {**body, "spec": spec}

    return specs(shape_of(info.spec)).map(document)


def attempt(document: dict[str, Any]) -> Resource[Any] | InvalidDocument:
    try:
        (resource,) = read(json.dumps(document), "f.yaml")
    except InvalidDocument as error:
        return error
    return resource


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from(KINDS).flatmap(documents))
def test_any_document_is_taken_or_refused_with_reasons(document: dict[str, Any]) -> None:
    found = attempt(document)
    if isinstance(found, InvalidDocument):
        assert found.findings
        assert all(str(each).startswith("f.yaml") for each in found.findings)
        return
    resource = found
    again = codec.load(resource.key, codec.dump(resource))
    assert codec.encode(again) == codec.encode(resource)
    assert isinstance(taken(Put(again)), Put)
    if resource.key.kind in POLICIES:
        assert source_of(again) is not None
