"""Both datastores against a model: a dictionary and a list of what happened to it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.contract.datastore_servers import EtcdServer, Place
from tortie.datastore.etcd.key_value import EtcdKeyValue
from tortie.datastore.etcd.options import EtcdOptions
from tortie.datastore.keyvalue import Entry, Event, KeyValue
from tortie.datastore.sqlite.key_value import SqliteKeyValue
from tortie.datastore.sqlite.schema import SqliteOptions
from tortie.errors import Conflict, NotFound

T = TypeVar("T")
_roots = itertools.count()
_keys = st.sampled_from(["a", "a/", "a/b", "a0", "b", "é"])
_values = st.binary(max_size=5)
_clients = st.integers(0, 1)


class Model(RuleBasedStateMachine):
    """Two clients of one store do anything; each always sees what the model says."""

    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = f"/model/{next(_roots)}/"
        self.now: dict[str, tuple[bytes, int]] = {}
        self.past: list[Event] = []
        self.clients: list[KeyValue] = []
        self.start = 0

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    @initialize()
    def open(self) -> None:
        self.clients = [self.place(), self.place()]
        self.start = self.do(self._scan(self.clients[0], "", 10))[1]

    async def _scan(self, client: KeyValue, under: str, size: int) -> tuple[list[Entry], int]:
        entries: list[Entry] = []
        revision = 0
        async for page in client.scan(self.root + under, page_size=size):
            assert revision in (0, page.revision)
            revision = page.revision
            entries.extend(page.entries)
        return entries, revision

    def _happened(self, put: dict[str, bytes], gone: set[str], revision: int) -> None:
        for key in gone - put.keys():
            if self.now.pop(key, None) is not None:
                self.past.append(Event(key, None, revision))
        for key, value in put.items():
            self.now[key] = (value, revision)
            self.past.append(Event(key, value, revision))

    @rule(
        client=_clients,
        put=st.dictionaries(_keys, _values, max_size=3),
        gone=st.sets(_keys, max_size=2),
        right=st.sets(_keys, max_size=3),
        wrong=st.dictionaries(_keys, st.integers(0, 3), max_size=1),
    )
    def commit(
        self, client: int, put: dict[str, bytes], gone: set[str], right: set[str], wrong: dict[str, int]
    ) -> None:
        put = {self.root + key: value for key, value in put.items()}
        gone = {self.root + key for key in gone}
        expect = {self.root + key: self.now.get(self.root + key, (b"", 0))[1] for key in sorted(right)}
        expect.update((self.root + key, revision) for key, revision in wrong.items())
        differs = [key for key, revision in expect.items() if self.now.get(key, (b"", 0))[1] != revision]
        commit = self.clients[client].commit(expect=expect, put=put, gone=frozenset(gone))
        if differs:
            with pytest.raises(Conflict) as raised:
                self.do(commit)
            assert raised.value.key == differs[0]
            return
        revision = self.do(commit)
        assert revision >= max((event.revision for event in self.past), default=self.start)
        self._happened(put, gone, revision)

    @rule(client=_clients, key=_keys)
    def get(self, client: int, key: str) -> None:
        held = self.now.get(self.root + key)
        if held is None:
            with pytest.raises(NotFound):
                self.do(self.clients[client].get(self.root + key))
        else:
            assert self.do(self.clients[client].get(self.root + key)) == Entry(self.root + key, *held)

    @rule(client=_clients, under=st.sampled_from(["", "a", "a/"]), size=st.integers(1, 4))
    def scan(self, client: int, under: str, size: int) -> None:
        entries, _ = self.do(self._scan(self.clients[client], under, size))
        prefix = self.root + under
        assert entries == [
            Entry(key, *held) for key, held in sorted(self.now.items()) if key.startswith(prefix)
        ]

    @rule(client=_clients, back=st.integers(0, 6), under=st.sampled_from(["", "a", "b"]))
    def watch(self, client: int, back: int, under: str) -> None:
        revisions = [self.start, *sorted({event.revision for event in self.past})]
        after = revisions[-1 - min(back, len(revisions) - 1)]
        prefix = self.root + under
        wanted = [event for event in self.past if event.revision > after and event.key.startswith(prefix)]

        async def follow() -> list[Event]:
            told: list[Event] = []
            async with self.clients[client].watch(prefix, after=after) as events:
                while len(told) < len(wanted):
                    told.extend((await anext(events)).changes)
            return told

        told = self.do(follow())
        assert sorted(told, key=lambda event: (event.revision, event.key)) == sorted(
            wanted, key=lambda event: (event.revision, event.key)
        )
        assert [event.revision for event in told] == sorted(event.revision for event in told)

    @rule(client=_clients)
    def reopen(self, client: int) -> None:
        self.do(self.clients[client].close())
        self.clients[client] = self.place()

    @rule(client=_clients, keys=st.sets(_keys, min_size=1, max_size=2))
    def a_lease_ends(self, client: int, keys: set[str]) -> None:
        store = self.clients[client]
        put = {self.root + key: b"leased" for key in sorted(keys)}
        lease = self.do(store.grant(60))
        self._happened(put, set(), self.do(store.commit(expect={}, put=put, lease=lease)))
        self.do(store.revoke(lease))
        _, revision = self.do(self._scan(store, "", 10))
        self._happened({}, set(put), revision)

    @invariant()
    def both_see_the_same(self) -> None:
        if self.clients:
            one, other = (self.do(self._scan(client, "", 3))[0] for client in self.clients)
            assert one == other

    def teardown(self) -> None:
        for client in self.clients:
            self.do(client.close())
        self.loop.close()


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    with EtcdServer() as server:
        yield server


def _check(place: Place, examples: int) -> None:
    placed = type("Placed", (Model,), {"place": staticmethod(place)})
    run_state_machine_as_test(
        placed, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None)
    )


def test_sqlite_is_the_model(tmp_path: Path) -> None:
    def place() -> KeyValue:
        return SqliteKeyValue(SqliteOptions(tmp_path / "store.db"))

    _check(place, 100)


def test_etcd_is_the_model(etcd: EtcdServer) -> None:
    def place() -> KeyValue:
        return EtcdKeyValue(EtcdOptions(endpoints=(etcd.endpoint,)))

    _check(place, 40)
