"""From one random policy set to the next: what the graph says depends on where it stands, not on how it came there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.fuzz.compare import policy_sets
from tests.oracle.builders import namespace, pod, policy
from tests.oracle.documents import Document
from tortie.calc.graph import CalcGraph
from tortie.calc.scope import Scope
from tortie.resources import codec, registry
from tortie.resources.resource import Delete, Put, Resource, ResourceKey

SETS = 250
Rows = dict[str, dict[Any, Any]]


class Graph:
    """A graph, and all rows that it has told of."""

    def __init__(self) -> None:
        self._graph = CalcGraph(Scope("node"))
        self._known: set[ResourceKey] = set()
        self._rows: Rows = {}

    def become(self, documents: Sequence[Document]) -> Rows:
        """These documents and no others, in one flush."""
        resources = [resource_of(each) for each in documents]
        keys = {resource.key for resource in resources}
        self._graph.fold([Delete(key) for key in self._known - keys])
        self._graph.fold([Put(resource) for resource in resources])
        self._known = keys
        for delta in self._graph.flush(in_sync=True).deltas:
            rows = self._rows.setdefault(delta.table.name, {})
            for key in delta.gone:
                del rows[key]
            rows.update(delta.put)
        return {table: rows for table, rows in self._rows.items() if rows}


def resource_of(document: Document) -> Resource[Any]:
    info = registry.by_document(document["apiVersion"], document["kind"])
    assert info is not None, document["kind"]
    return codec.decode(info, document)


def differing(one: Rows, other: Rows) -> list[str]:
    tables = sorted(one.keys() | other.keys())
    return [
        f"{table} {key}: {one.get(table, {}).get(key)} is not {other.get(table, {}).get(key)}"
        for table in tables
        for key in one.get(table, {}).keys() | other.get(table, {}).keys()
        if one.get(table, {}).get(key) != other.get(table, {}).get(key)
    ]


def test_rows_are_those_of_a_graph_that_begins_here() -> None:
    graph = Graph()
    for seed, _, documents, _ in policy_sets(range(900_000, 900_000 + SETS)):
        different = differing(graph.become(documents), Graph().become(documents))
        assert not different, f"seed {seed}\n" + "\n".join(different[:5])


def test_a_policy_that_changes_while_it_selects_nothing() -> None:
    """Its old endpoint goes, its rules change, a new endpoint comes: all in one flush."""
    before = [
        namespace("here"),
        policy("p", selector="app == 'web'", ingress=[{"action": "Allow"}]),
        pod("a", ["10.0.0.1"], labels={"app": "web"}),
    ]
    after = [
        namespace("here"),
        policy("p", selector="app == 'web'", ingress=[{"action": "Deny"}]),
        pod("b", ["10.0.0.2"], labels={"app": "web"}),
    ]
    graph = Graph()
    graph.become(before)
    assert not differing(graph.become(after), Graph().become(after))
