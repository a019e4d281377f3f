"""What `KeyValue` promises, asked of every implementation."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.datastore_servers import EtcdServer, Place, opened
from tortie.datastore.etcd.key_value import EtcdKeyValue
from tortie.datastore.etcd.options import EtcdOptions
from tortie.datastore.keyvalue import Entry, Event, Events, KeyValue
from tortie.datastore.sqlite.key_value import SqliteKeyValue
from tortie.datastore.sqlite.schema import SqliteOptions
from tortie.errors import Conflict, HistoryGone, NotFound, StoreUnavailable

_roots = itertools.count()


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdServer]:
    with EtcdServer(arguments=["--experimental-watch-progress-notify-interval", "1s"]) as server:
        yield server


@pytest.fixture(params=["sqlite", "etcd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "etcd":
        server: EtcdServer = request.getfixturevalue("etcd")
        return lambda: EtcdKeyValue(EtcdOptions(endpoints=(server.endpoint,)))
    return lambda: SqliteKeyValue(SqliteOptions(tmp_path / "new" / "store.db"))


@pytest.fixture
async def store(place: Place) -> AsyncIterator[KeyValue]:
    async with opened(place) as (client,):
        yield client


@pytest.fixture
def root() -> str:
    """A prefix that no other test uses: the etcd server is shared."""
    return f"/test/{next(_roots)}/"


async def put(store: KeyValue, key: str, value: bytes = b"x", **more: Any) -> int:
    return await store.commit(expect={}, put={key: value}, **more)


async def scan(store: KeyValue, prefix: str, page_size: int = 500) -> tuple[list[Entry], int]:
    entries: list[Entry] = []
    revisions: set[int] = set()
    async for page in store.scan(prefix, page_size=page_size):
        entries.extend(page.entries)
        revisions.add(page.revision)
    assert len(revisions) == 1
    return entries, revisions.pop()


async def next_changes(events: AsyncIterator[Events], count: int = 1) -> list[Event]:
    """At least ``count`` changes, progress aside."""
    changes: list[Event] = []
    async with asyncio.timeout(20):
        while len(changes) < count:
            changes.extend((await anext(events)).changes)
    return changes


async def test_a_value_is_read_as_it_was_written(store: KeyValue, root: str) -> None:
    value = bytes(range(256))
    revision = await put(store, root + "a", value)
    assert await store.get(root + "a") == Entry(root + "a", value, revision)
    await put(store, root + "a", b"")
    assert (await store.get(root + "a")).value == b""


async def test_an_absent_key_is_not_found(store: KeyValue, root: str) -> None:
    with pytest.raises(NotFound) as raised:
        await store.get(root + "none")
    assert raised.value.key == root + "none"


async def test_revisions_rise_with_each_commit(store: KeyValue, root: str) -> None:
    revisions = [await put(store, root + "a"), await put(store, root + "b"), await put(store, root + "a")]
    assert revisions == sorted(set(revisions))
    assert revisions[0] > 0


async def test_expecting_absence_creates_once(store: KeyValue, root: str) -> None:
    await store.commit(expect={root + "a": 0}, put={root + "a": b"1"})
    with pytest.raises(Conflict) as raised:
        await store.commit(expect={root + "a": 0}, put={root + "a": b"2"})
    assert raised.value.key == root + "a"
    assert (await store.get(root + "a")).value == b"1"


async def test_compare_and_swap(store: KeyValue, root: str) -> None:
    first = await put(store, root + "a", b"1")
    second = await store.commit(expect={root + "a": first}, put={root + "a": b"2"})
    with pytest.raises(Conflict):
        await store.commit(expect={root + "a": first}, put={root + "a": b"3"})
    assert await store.get(root + "a") == Entry(root + "a", b"2", second)


async def test_a_commit_over_several_keys_is_all_or_nothing(store: KeyValue, root: str) -> None:
    a, b, c = (root + name for name in "abc")
    first = await store.commit(expect={a: 0, b: 0}, put={a: b"1", b: b"1"})
    assert {(await store.get(a)).revision, (await store.get(b)).revision} == {first}
    with pytest.raises(Conflict) as raised:
        await store.commit(expect={a: first, b: first - 1}, put={a: b"2", c: b"2"}, gone=frozenset({b}))
    assert raised.value.key == b
    entries, _ = await scan(store, root)
    assert entries == [Entry(a, b"1", first), Entry(b, b"1", first)]


async def test_the_first_key_that_differs_is_named(store: KeyValue, root: str) -> None:
    keys = {root + str(n): 0 for n in range(5)}
    await put(store, root + "2")
    await put(store, root + "4")
    with pytest.raises(Conflict) as raised:
        await store.commit(expect=keys, put={root + "0": b""})
    assert raised.value.key == root + "2"


async def test_deleting(store: KeyValue, root: str) -> None:
    revision = await put(store, root + "a")
    with pytest.raises(Conflict):
        await store.commit(expect={root + "a": revision - 1}, put={}, gone=frozenset({root + "a"}))
    await store.commit(expect={root + "a": revision}, put={}, gone=frozenset({root + "a"}))
    with pytest.raises(NotFound):
        await store.get(root + "a")
    await store.commit(expect={}, put={}, gone=frozenset({root + "a"}))
    await store.commit(expect={root + "a": 0}, put={root + "a": b"again"})


async def test_a_scan_is_in_key_order_and_within_its_prefix(store: KeyValue, root: str) -> None:
    names = ["b", "a", "a/b", "a0", "a-", "é", "~", "Z"]
    for name in names:
        await put(store, root + "in/" + name)
    await put(store, root + "in")
    await put(store, root + "in0")
    entries, _ = await scan(store, root + "in/")
    assert [entry.key for entry in entries] == sorted(root + "in/" + name for name in names)


async def test_an_empty_scan_tells_its_revision(store: KeyValue, root: str) -> None:
    revision = await put(store, root + "a")
    pages = [page async for page in store.scan(root + "nothing/")]
    assert len(pages) == 1
    assert pages[0].entries == ()
    assert pages[0].revision >= revision


@pytest.mark.parametrize(("count", "size"), [(7, 3), (6, 3), (1, 1), (3, 500)])
async def test_all_pages_show_one_revision(store: KeyValue, root: str, count: int, size: int) -> None:
    keys = [f"{root}{n:03}" for n in range(count)]
    await store.commit(expect={}, put=dict.fromkeys(keys, b"old"))
    seen: list[Entry] = []
    revisions: set[int] = set()
    async for page in store.scan(root, page_size=size):
        assert len(page.entries) <= size
        seen.extend(page.entries)
        revisions.add(page.revision)
        # Someone writes meanwhile: before, behind and between.
        await store.commit(
            expect={},
            put={keys[-1]: b"new", root + "zzz": b"new", root + "": b"new"},
            gone=frozenset({keys[0]}),
        )
    assert [(entry.key, entry.value) for entry in seen] == [(key, b"old") for key in keys]
    assert len(revisions) == 1


async def test_a_scan_may_be_left_early(store: KeyValue, root: str) -> None:
    for n in range(5):
        await put(store, f"{root}{n}")
    async for page in store.scan(root, page_size=2):
        assert len(page.entries) == 2
        break
    assert len((await scan(store, root, 2))[0]) == 5


async def test_a_watch_tells_what_happened_after(store: KeyValue, root: str) -> None:
    before = await put(store, root + "a", b"1")
    second = await put(store, root + "a", b"2")
    async with store.watch(root, after=before) as events:
        third = await store.commit(expect={}, put={root + "b": b"3"}, gone=frozenset({root + "a"}))
        await put(store, root[:-1] + "0", b"outside")
        fourth = await put(store, root + "b", b"4")
        changes = await next_changes(events, 4)
    assert changes[0] == Event(root + "a", b"2", second)
    assert set(changes[1:3]) == {Event(root + "b", b"3", third), Event(root + "a", None, third)}
    assert changes[3] == Event(root + "b", b"4", fourth)


async def test_a_watch_resumes_where_the_scan_ended(store: KeyValue, root: str) -> None:
    await put(store, root + "a", b"1")
    _, revision = await scan(store, root)
    last = await put(store, root + "b", b"2")
    async with store.watch(root, after=revision) as events:
        assert await next_changes(events) == [Event(root + "b", b"2", last)]


async def test_a_transaction_is_told_whole_and_a_resumed_watch_repeats_nothing(
    store: KeyValue, root: str
) -> None:
    _, start = await scan(store, root)
    transactions = [frozenset(f"{root}{n}-{m}" for m in range(40)) for n in range(60)]
    for keys in transactions:
        await store.commit(expect={}, put=dict.fromkeys(keys, b"x"))
    told: list[frozenset[str]] = []
    after = start
    while len(told) < len(transactions):
        async with asyncio.timeout(20), store.watch(root, after=after) as events:
            batch = await anext(events)
        for _, group in itertools.groupby(batch.changes, key=lambda change: change.revision):
            told.append(frozenset(change.key for change in group))
        assert batch.revision >= after
        after = batch.revision
    assert told == transactions


async def test_a_watch_tells_progress(store: KeyValue, root: str) -> None:
    _, start = await scan(store, root)
    async with store.watch(root + "quiet/", after=start) as events:
        latest = await put(store, root + "noise")
        async with asyncio.timeout(20):
            while (batch := await anext(events)).revision < latest:
                assert batch.changes == ()
        assert batch.changes == ()


async def test_a_revision_of_the_future_has_no_history(store: KeyValue, root: str) -> None:
    _, revision = await scan(store, root)
    with pytest.raises(HistoryGone):
        async with asyncio.timeout(20), store.watch(root, after=revision + 1_000_000) as events:
            await anext(events)


async def test_watches_of_another_client_hear_every_write_in_order(place: Place, root: str) -> None:
    async with opened(place, 3) as (reader, one, other):
        _, start = await scan(reader, root)

        async def write(client: KeyValue, name: str) -> None:
            for n in range(50):
                await put(client, f"{root}{name}", str(n).encode())

        async with reader.watch(root, after=start) as events:
            await asyncio.gather(write(one, "one"), write(other, "other"))
            changes = await next_changes(events, 100)
        for name in ("one", "other"):
            values = [change.value for change in changes if change.key == root + name]
            assert values == [str(n).encode() for n in range(50)]
        revisions = [change.revision for change in changes]
        assert revisions == sorted(set(revisions))


async def test_many_watches_on_one_client(store: KeyValue, root: str) -> None:
    _, start = await scan(store, root)

    async def first(name: str) -> list[Event]:
        async with store.watch(f"{root}{name}/", after=start) as events:
            return await next_changes(events)

    tasks = [asyncio.create_task(first(str(n))) for n in range(20)]
    await asyncio.sleep(0)
    revisions = [await put(store, f"{root}{n}/a", b"x") for n in range(20)]
    results = await asyncio.gather(*tasks)
    assert [result[0] for result in results] == [
        Event(f"{root}{n}/a", b"x", revision) for n, revision in enumerate(revisions)
    ]


async def test_concurrent_counters_lose_nothing(place: Place, root: str) -> None:
    async with opened(place, 4) as clients:

        async def count(client: KeyValue) -> int:
            conflicts = 0
            done = 0
            while done < 25:
                try:
                    entry = await client.get(root + "n")
                    revision, number = entry.revision, int(entry.value)
                except NotFound:
                    revision, number = 0, 0
                try:
                    await client.commit(
                        expect={root + "n": revision}, put={root + "n": str(number + 1).encode()}
                    )
                    done += 1
                except Conflict:
                    conflicts += 1
            return conflicts

        await asyncio.gather(*(count(client) for client in clients))
        assert int((await clients[0].get(root + "n")).value) == 100


async def test_many_commits_in_flight_each_have_their_own_revision(store: KeyValue, root: str) -> None:
    revisions = await asyncio.gather(*(put(store, f"{root}{n}") for n in range(200)))
    assert len(set(revisions)) == 200
    entries, _ = await scan(store, root)
    assert {entry.key: entry.revision for entry in entries} == {
        f"{root}{n}": revision for n, revision in enumerate(revisions)
    }


async def test_of_many_that_create_one_key_one_succeeds(store: KeyValue, root: str) -> None:
    results = await asyncio.gather(
        *(store.commit(expect={root + "a": 0}, put={root + "a": str(n).encode()}) for n in range(20)),
        return_exceptions=True,
    )
    won = [n for n, result in enumerate(results) if isinstance(result, int)]
    assert len(won) == 1
    assert all(isinstance(result, Conflict) for n, result in enumerate(results) if n not in won)
    assert (await store.get(root + "a")).value == str(won[0]).encode()


async def test_keys_of_an_expired_lease_vanish_and_watches_hear_it(place: Place, root: str) -> None:
    async with opened(place, 2) as (owner, other):
        lease = await owner.grant(2)
        revision = await put(owner, root + "a", b"1", lease=lease)
        await put(owner, root + "free", b"1")
        async with other.watch(root, after=revision) as events:
            changes = await next_changes(events, 2)
        assert [(change.key, change.value) for change in changes] == [
            (root + "free", b"1"),
            (root + "a", None),
        ]
        with pytest.raises(NotFound):
            await other.get(root + "a")
        with pytest.raises(NotFound):
            await owner.keep_alive(lease)
        with pytest.raises(NotFound):
            await put(owner, root + "b", lease=lease)


async def test_a_lease_that_is_kept_alive_lives(store: KeyValue, root: str) -> None:
    lease = await store.grant(4)
    await put(store, root + "a", lease=lease)
    for _ in range(10):
        await store.keep_alive(lease)
        await asyncio.sleep(0.5)
    await store.get(root + "a")
    await store.revoke(lease)
    with pytest.raises(NotFound):
        await store.get(root + "a")
    await store.revoke(lease)


async def test_a_key_written_without_the_lease_is_free_of_it(store: KeyValue, root: str) -> None:
    lease = await store.grant(60)
    await put(store, root + "a", lease=lease)
    await put(store, root + "a", b"mine")
    await store.revoke(lease)
    assert (await store.get(root + "a")).value == b"mine"


async def test_a_cancelled_watch_leaves_the_client_usable(store: KeyValue, root: str) -> None:
    _, start = await scan(store, root)

    async def follow() -> None:
        async with store.watch(root + "q/", after=start) as events:
            async for batch in events:
                assert batch.changes == ()

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(follow(), 0.1)
    await put(store, root + "q/a")
    async with store.watch(root + "q/", after=start) as events:
        assert len(await next_changes(events)) == 1


async def test_close_is_idempotent_and_final(place: Place, root: str) -> None:
    never_used = place()
    await never_used.close()
    store = place()
    await put(store, root + "a")
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.get(root + "a")
    async with opened(place) as (other,):
        await other.get(root + "a")


async def test_close_ends_a_watch(place: Place, root: str) -> None:
    store = place()
    revision = await put(store, root + "a")

    async def follow() -> None:
        async with store.watch(root, after=revision) as events:
            async for _ in events:
                pass

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.2)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(task, 10)
