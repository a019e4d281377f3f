from __future__ import annotations

import asyncio

import pytest

from tortie.agent import intake as room
from tortie.agent.intake import Intake
from tortie.resources.resource import Delete, Put, Resource, ResourceKey, Revision, Update
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT

KEY = ResourceKey(WORKLOAD_ENDPOINT, "web", "default")


def put(revision: str | None) -> Put:
    stored = None if revision is None else Revision(revision)
    return Put(Resource(key=KEY, spec=None, revision=stored))


def shown(updates: list[Update]) -> list[str | None]:
    return [str(update.resource.revision) if isinstance(update, Put) else None for update in updates]


@pytest.fixture
def intake(monkeypatch: pytest.MonkeyPatch) -> Intake:
    monkeypatch.setattr(room, "ECHO_SECONDS", 0.03)
    return Intake()


async def hear(intake: Intake, *updates: Update) -> None:
    await intake.receive(updates, in_sync=False)


async def test_without_a_write_of_ours_everything_comes_in(intake: Intake) -> None:
    await hear(intake, put("1"))
    assert shown(intake.take(9)) == ["1"]


async def test_what_is_announced_comes_in_before_it_is_written(intake: Intake) -> None:
    intake.announce(put(None))
    assert shown(intake.take(9)) == ["None"]
    intake.write_through(put("5"))
    assert shown(intake.take(9)) == ["5"]


async def test_what_is_older_than_our_write_never_comes_in(intake: Intake) -> None:
    intake.announce(put(None))
    await hear(intake, Delete(KEY))  # of the sandbox before
    intake.write_through(put("5"))
    await hear(intake, put("5"))
    assert shown(intake.take(9)) == ["5"]
    await asyncio.sleep(0.05)
    assert intake.take(9) == []
    await hear(intake, put("6"))
    assert shown(intake.take(9)) == ["6"]


async def test_the_echo_of_our_write_is_no_news(intake: Intake) -> None:
    intake.write_through(put("5"))
    assert shown(intake.take(9)) == ["5"]
    await hear(intake, put("5"))
    assert intake.take(9) == []
    await hear(intake, put("6"))
    assert shown(intake.take(9)) == ["6"]


async def test_an_echo_that_was_faster_than_our_answer_is_taken_in_the_end(intake: Intake) -> None:
    intake.announce(put(None))
    await hear(intake, put("5"))
    intake.write_through(put("5"))
    assert shown(intake.take(9)) == ["5"]
    await asyncio.sleep(0.05)
    assert shown(intake.take(9)) == ["5"]


async def test_news_that_swallowed_the_echo_is_not_lost(intake: Intake) -> None:
    intake.announce(put(None))
    await hear(intake, put("7"))  # someone changed it at once, and the syncer told only of that
    intake.write_through(put("5"))
    assert shown(intake.take(9)) == ["5"]
    await asyncio.sleep(0.05)
    assert shown(intake.take(9)) == ["7"]


async def test_a_deletion_of_ours_is_not_undone_by_an_older_put(intake: Intake) -> None:
    intake.hold(KEY)
    await hear(intake, put("5"))
    intake.write_through(Delete(KEY))
    await hear(intake, Delete(KEY))
    assert shown(intake.take(9)) == [None]
    await asyncio.sleep(0.05)
    assert intake.take(9) == []


async def test_giving_up_brings_back_what_was_there_or_what_the_datastore_said_since(intake: Intake) -> None:
    intake.announce(put(None))
    intake.give_up(put("1"))
    assert shown(intake.take(9)) == ["1"]
    intake.announce(put(None))
    await hear(intake, put("2"))
    intake.give_up(Delete(KEY))
    assert shown(intake.take(9)) == ["2"]
    await hear(intake, put("3"))
    assert shown(intake.take(9)) == ["3"]


async def test_a_write_that_takes_long_holds_nothing_up(intake: Intake) -> None:
    intake.hold(KEY)
    await hear(intake, put("4"))
    assert intake.take(9) == []
    await asyncio.sleep(0.05)
    assert shown(intake.take(9)) == ["4"]
