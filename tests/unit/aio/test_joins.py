from __future__ import annotations

import asyncio

import pytest

from tortie.aio.joins import Recall, both


async def test_both_return_what_they_did() -> None:
    assert await both(asyncio.sleep(0, 1), asyncio.sleep(0, "two")) == (1, "two")


async def test_a_failure_waits_for_the_other_to_end() -> None:
    ended: list[str] = []

    async def slow() -> None:
        await asyncio.sleep(0.01)
        ended.append("slow")

    async def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await both(slow(), broken())
    assert ended == ["slow"]


async def test_the_first_of_two_failures_is_told() -> None:
    async def fail(text: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        raise ValueError(text)

    with pytest.raises(ValueError, match="first"):
        await both(fail("first", 0.01), fail("second", 0))


async def test_what_nobody_calls_off_returns() -> None:
    recall = Recall()
    assert await recall.wait(asyncio.sleep(0, "done")) == "done"
    assert not recall.called_off


async def test_what_is_waited_for_stops_when_it_is_called_off() -> None:
    recall = Recall()
    asyncio.get_running_loop().call_later(0.01, recall.call_off)
    async with asyncio.timeout(5):
        assert await recall.wait(asyncio.Event().wait()) is None
    assert recall.called_off


async def test_nothing_begins_after_it_was_called_off() -> None:
    recall = Recall()
    recall.call_off()
    begun: list[int] = []

    async def work() -> str:
        begun.append(1)
        return "done"

    assert await recall.wait(work()) is None
    assert begun == []


async def test_a_time_out_of_the_work_itself_is_no_recall() -> None:
    async def late() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await Recall().wait(late())


async def test_calling_off_twice_is_once() -> None:
    recall = Recall()
    waiting = asyncio.ensure_future(recall.wait(asyncio.Event().wait()))
    await asyncio.sleep(0)
    recall.call_off()
    recall.call_off()
    assert await waiting is None
