from __future__ import annotations

import asyncio

import pytest

from tortie.workloads.locks import Locks


async def test_one_at_a_time_a_name() -> None:
    locks = Locks()
    inside = 0
    most = 0

    async def work() -> None:
        nonlocal inside, most
        async with locks.hold("a", "b"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work() for _ in range(20)))
    assert most == 1
    assert not locks.is_held("a")


async def test_two_orders_do_not_wait_for_each_other() -> None:
    locks = Locks()

    async def work(*names: str) -> None:
        for _ in range(50):
            async with locks.hold(*names):
                await asyncio.sleep(0)

    async with asyncio.timeout(5):
        await asyncio.gather(work("a", "b"), work("b", "a"), work("b"), work("a"))


async def test_who_gives_up_waiting_leaves_nothing() -> None:
    locks = Locks()
    async with locks.hold("a"):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), locks.hold("b", "a"):
                raise AssertionError("not our turn")
        assert not locks.is_held("b")
        assert locks.is_held("a")
    assert not locks.is_held("a")


async def test_different_names_do_not_wait() -> None:
    locks = Locks()
    async with locks.hold("a"), asyncio.timeout(1), locks.hold("b"):
        assert locks.is_held("b")
