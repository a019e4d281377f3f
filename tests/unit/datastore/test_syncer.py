"""The syncer over a store that a test plays by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tortie.datastore import syncer as syncing
from tortie.datastore.store import Changes, Cursor, ResourcePage, Store
from tortie.datastore.syncer import Batch, FeedState, Phase, Syncer
from tortie.errors import AccessDenied, HistoryGone, StoreError, StoreUnavailable
from tortie.resources.ip_pool import IP_POOL, IPPoolSpec
from tortie.resources.network_policy import NETWORK_POLICY, NetworkPolicySpec
from tortie.resources.node import NODE
from tortie.resources.resource import Delete, Invalid, Kind, Put, Resource, ResourceKey, Revision, Update
from tortie.resources.rules import Rule


def pool(name: str, revision: int = 1) -> Put:
    key = ResourceKey(IP_POOL, name)
    return Put(Resource(key=key, spec=IPPoolSpec(), revision=Revision(str(revision))))


def gone(name: str) -> Delete:
    return Delete(ResourceKey(IP_POOL, name))


class PlayedStore:
    """Answers lists and watches with what the test has laid out; a watch that has told all waits."""

    def __init__(self) -> None:
        self.lists: list[Sequence[Update] | StoreError] = []
        self.watches: list[list[Sequence[Update] | StoreError]] = []
        self.calls: list[str] = []

    async def list(self, kind: Kind, *, within: str = "") -> AsyncIterator[ResourcePage]:
        if kind == NODE:
            yield ResourcePage((), Cursor("0"))
            return
        self.calls.append("list")
        answer = self.lists.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        half = len(answer) // 2
        yield ResourcePage(tuple(answer[:half]), Cursor("listed"))
        yield ResourcePage(tuple(answer[half:]), Cursor("listed"))

    @contextlib.asynccontextmanager
    async def watch(
        self, kind: Kind, *, after: Cursor, within: str = ""
    ) -> AsyncIterator[AsyncIterator[Changes]]:
        async def changes() -> AsyncIterator[Changes]:
            script = self.watches.pop(0) if kind == IP_POOL and self.watches else []
            for number, step in enumerate(script):
                if isinstance(step, StoreError):
                    raise step
                yield Changes(tuple(step), Cursor(f"{after}.{number}"))
            await asyncio.Event().wait()

        if kind == IP_POOL:
            self.calls.append(f"watch {after}")
        yield changes()


class Sink:
    """Collects batches, and can be told to be slow."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.open = asyncio.Event()
        self.open.set()
        self.changed = asyncio.Event()

    async def __call__(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.changed.set()
        await self.open.wait()

    @property
    def updates(self) -> list[Update]:
        return [update for batch in self.batches for update in batch.updates]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 nothing tells it
            await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def running(
    store: PlayedStore, kinds: Sequence[Kind] = (IP_POOL,)
) -> AsyncIterator[tuple[Syncer, Sink]]:
    typed: Store = store  # type: ignore[assignment]
    syncer, sink = Syncer(typed, kinds), Sink()
    task = asyncio.create_task(syncer.run(sink))
    try:
        yield syncer, sink
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "LIST_INTERVAL_SECONDS", 0.05)


async def test_a_snapshot_then_in_sync_then_changes() -> None:
    store = PlayedStore()
    store.lists = [[pool("a"), pool("b")]]
    store.watches = [[[pool("a", 2)], [gone("b")]]]
    async with running(store) as (_, sink):
        await sink.until(lambda: gone("b") in sink.updates and store.calls == ["list", "watch listed"])
    flags = [batch.in_sync for batch in sink.batches]
    assert flags == sorted(flags)
    assert sink.batches[-1].in_sync
    # What was not taken yet may have been replaced; each key's last word stands.
    last = {update.key.name: update for update in sink.updates}
    assert last["b"] == gone("b")
    assert isinstance(last["a"], Put)
    assert last["a"].resource.revision == "2"


async def test_an_empty_datastore_is_in_sync() -> None:
    store = PlayedStore()
    store.lists = [[]]
    async with running(store) as (syncer, sink):
        await sink.until(lambda: bool(sink.batches))
        assert syncer.in_sync
    assert sink.batches == [Batch((), True)]


async def test_not_in_sync_before_every_kind_is_listed() -> None:
    store = PlayedStore()
    store.lists = [StoreUnavailable("away"), [pool("a")]]
    async with running(store, (NODE, IP_POOL)) as (_, sink):
        await sink.until(lambda: bool(sink.batches) and sink.batches[-1].in_sync)
    assert [update.key.name for update in sink.updates] == ["a"]


async def test_a_lost_watch_resumes_at_its_cursor() -> None:
    store = PlayedStore()
    store.lists = [[pool("a")]]
    store.watches = [[[pool("a", 2)], StoreUnavailable("cut")], [[pool("a", 3)]]]
    async with running(store) as (_, sink):
        await sink.until(lambda: any(isinstance(u, Put) and u.resource.revision == "3" for u in sink.updates))
    assert store.calls == ["list", "watch listed", "watch listed.0"]


async def test_a_fresh_list_tells_only_differences() -> None:
    store = PlayedStore()
    broken = Invalid(ResourceKey(IP_POOL, "bad"), "why")
    store.lists = [[pool("a"), pool("b"), pool("c"), broken], [pool("a"), pool("c", 9), pool("d"), broken]]
    store.watches = [[HistoryGone("compacted")]]
    async with running(store) as (_, sink):
        await sink.until(lambda: gone("b") in sink.updates)
    second = sink.updates[4:]
    assert [(type(update).__name__, update.key.name) for update in second] == [
        ("Put", "c"),
        ("Put", "d"),
        ("Invalid", "bad"),
        ("Delete", "b"),
    ]


async def test_a_policy_that_others_wrote_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "CHECKED_AT_ONCE", 1)
    key = ResourceKey(NETWORK_POLICY, "p", "team")

    def policy(revision: str, *actions: str) -> Put:
        spec = NetworkPolicySpec(selector="a == 'b'", ingress=tuple(Rule(action=each) for each in actions))
        return Put(Resource(key=key, spec=spec, revision=Revision(revision)))

    store = PlayedStore()
    store.lists = [[policy("1", "Allow")], [policy("2", "Maybe")], [policy("2", "Maybe")]]
    store.watches = [
        [[policy("2", "Maybe")], HistoryGone("compacted")],
        [HistoryGone("compacted")],
        [[policy("3", "Deny")]],
    ]
    async with running(store) as (_, sink):
        await sink.until(lambda: len(sink.updates) == 3)
    first, second, third = sink.updates
    assert isinstance(first, Put)
    assert first.resource.spec.types == ("Ingress",)
    assert isinstance(second, Invalid)
    assert "Maybe is not one of" in second.reason
    assert second.readable is not None
    assert (second.readable.spec.selector, second.readable.spec.ingress) == ("a == 'b'", ())
    assert isinstance(third, Put)
    assert third.resource.revision == "3"


async def test_history_gone_again_and_again_is_no_tight_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "LIST_INTERVAL_SECONDS", 0.2)
    store = PlayedStore()
    store.lists = [[] for _ in range(1000)]
    store.watches = [[HistoryGone()] for _ in range(1000)]
    async with running(store):
        await asyncio.sleep(1.0)
    assert 3 <= store.calls.count("list") <= 6


async def test_a_store_that_fails_at_once_is_asked_ever_more_seldom() -> None:
    store = PlayedStore()
    store.lists = [StoreUnavailable("away") for _ in range(1000)]
    async with running(store) as (syncer, _):
        await asyncio.sleep(1.5)
        assert syncer.problem == "away"
    assert 3 <= store.calls.count("list") <= 8


async def test_kinds_that_flap_do_not_wake_each_other_round_and_round() -> None:
    class Flapping(PlayedStore):
        @contextlib.asynccontextmanager
        async def watch(
            self, kind: Kind, *, after: Cursor, within: str = ""
        ) -> AsyncIterator[AsyncIterator[Changes]]:
            self.calls.append("watch")

            async def changes() -> AsyncIterator[Changes]:
                raise StoreUnavailable("flapping")
                yield

            yield changes()

    store = Flapping()
    store.lists = [[]]
    async with running(store, (NODE, IP_POOL)):
        await asyncio.sleep(2)
    assert store.calls.count("watch") < 20


async def test_denied_access_is_reported_and_tried_seldom() -> None:
    store = PlayedStore()
    store.lists = [AccessDenied("no"), []]
    heard: list[FeedState] = []
    typed: Store = store  # type: ignore[assignment]
    syncer = Syncer(typed, (IP_POOL,), on_state=lambda _, state: heard.append(state))
    task = asyncio.create_task(syncer.run(Sink()))
    await asyncio.sleep(0.5)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert store.calls == ["list"]
    assert [(state.phase, state.reason) for state in heard] == [(Phase.LISTING, ""), (Phase.WAITING, "no")]


async def test_while_the_sink_is_busy_newer_updates_replace_older_ones() -> None:
    store = PlayedStore()
    store.lists = [[pool("a")]]
    store.watches = [[[pool("a", n), pool("b", n)] for n in range(2, 500)]]
    async with running(store) as (_, sink):
        sink.open.clear()
        await sink.until(lambda: bool(sink.batches))
        await eventually(lambda: not store.watches and len(store.calls) == 2)
        await asyncio.sleep(0.1)
        sink.open.set()
        await sink.until(
            lambda: any(isinstance(u, Put) and u.resource.revision == "499" for u in sink.updates)
        )
        assert len(sink.updates) < 10


async def test_a_slow_sink_holds_the_watch_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "INBOX_LIMIT", 100)
    store = PlayedStore()
    store.lists = [[]]
    store.watches = [[[pool(f"p{n}", n)] for n in range(5000)]]
    async with running(store) as (syncer, sink):
        sink.open.clear()
        await sink.until(lambda: bool(sink.batches))
        await asyncio.sleep(0.2)
        assert len(syncer._inbox) <= 100
        sink.open.set()
        await sink.until(lambda: len(sink.updates) == 5000)


async def test_an_error_that_is_none_of_the_stores_ends_it() -> None:
    class Broken(PlayedStore):
        async def list(self, kind: Kind, *, within: str = "") -> AsyncIterator[ResourcePage]:
            raise ZeroDivisionError
            yield

    typed: Store = Broken()  # type: ignore[assignment]
    with pytest.raises(ZeroDivisionError):
        await Syncer(typed, (IP_POOL,)).run(Sink())


_names = st.sampled_from("abcde")
_states = st.dictionaries(_names, st.integers(1, 3), max_size=5)


@given(states=st.lists(_states, min_size=1, max_size=5))
def test_whatever_the_lists_were_the_sink_ends_at_the_last(states: list[dict[str, int]]) -> None:
    async def play() -> dict[str, str | None]:
        store = PlayedStore()
        store.lists = [[pool(name, rev) for name, rev in sorted(state.items())] for state in states]
        store.watches = [[HistoryGone()] for _ in states[1:]]
        held: dict[str, str | None] = {}
        async with running(store) as (_, sink):
            await eventually(lambda: len(store.calls) == 2 * len(states))
            await sink.until(lambda: bool(sink.batches) and sink.batches[-1].in_sync)
            await asyncio.sleep(0.005)
            for update in sink.updates:
                held.pop(update.key.name, None)
                if isinstance(update, Put):
                    held[update.key.name] = update.resource.revision
        return held

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syncing, "LIST_INTERVAL_SECONDS", 0.0)
        held = asyncio.run(play())
    assert held == {name: str(revision) for name, revision in states[-1].items()}
