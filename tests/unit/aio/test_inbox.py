from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tortie.aio.inbox import Inbox


async def test_a_newer_value_replaces_the_older_and_keeps_its_place() -> None:
    inbox: Inbox[str, int] = Inbox(10)
    for key, value in (("a", 1), ("b", 2), ("a", 3)):
        await inbox.put(key, value)
    assert inbox.take(10) == [3, 2]
    assert len(inbox) == 0


async def test_who_puts_too_much_waits_until_there_is_room() -> None:
    inbox: Inbox[str, int] = Inbox(2)
    await inbox.put("a", 1)
    await inbox.put("b", 2)
    third = asyncio.ensure_future(inbox.put("c", 3))
    await asyncio.sleep(0)
    assert not third.done()
    assert inbox.take(1) == [1]
    await asyncio.wait_for(third, 1)
    assert inbox.take(5) == [2, 3]


async def test_a_replacement_needs_no_room() -> None:
    inbox: Inbox[str, int] = Inbox(1)
    await inbox.put("a", 1)
    await asyncio.wait_for(inbox.put("a", 2), 1)
    assert inbox.take(5) == [2]


async def test_who_waits_is_woken_by_the_bell() -> None:
    inbox: Inbox[str, int] = Inbox(10)
    waiting = asyncio.ensure_future(inbox.wait())
    await asyncio.sleep(0)
    inbox.put_now("a", 1)
    assert inbox.take(5) == [1]
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.put_now("b", 2)
    inbox.ring()
    await asyncio.wait_for(waiting, 1)
    assert inbox.take(5) == [2]


async def test_what_may_not_wait_goes_beyond_the_bound() -> None:
    inbox: Inbox[str, int] = Inbox(1)
    await inbox.put("a", 1)
    inbox.put_now("b", 2)
    assert inbox.take(5) == [1, 2]


async def test_the_consumer_wakes_when_something_is_there_and_sleeps_when_nothing_is() -> None:
    inbox: Inbox[str, int] = Inbox(1)
    waiting = asyncio.ensure_future(inbox.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    await inbox.put("a", 1)
    await asyncio.wait_for(waiting, 1)
    inbox.take(1)
    again = asyncio.ensure_future(inbox.wait())
    await asyncio.sleep(0)
    assert not again.done()
    again.cancel()


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers())), st.integers(1, 4))
def test_the_last_value_of_each_key_comes_out_once(puts: list[tuple[str, int]], slice_size: int) -> None:
    async def scenario() -> list[tuple[str, int]]:
        inbox: Inbox[str, tuple[str, int]] = Inbox(3)
        out: list[tuple[str, int]] = []

        async def consume() -> None:
            while True:
                await inbox.wait()
                out.extend(inbox.take(slice_size))

        consumer = asyncio.ensure_future(consume())
        for key, value in puts:
            await inbox.put(key, (key, value))
        while len(inbox):  # noqa: ASYNC110 - the inbox has no event for being empty
            await asyncio.sleep(0)
        consumer.cancel()
        return out

    out = asyncio.run(scenario())
    assert dict(out) == dict(puts)
