from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from tortie.agent.realised import RealisedEndpoints
from tortie.dataplane.api import Applied
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.routes import ROUTES
from tortie.desired.table import Delta, DesiredKey, Flush
from tortie.errors import DeadlineExceeded, KernelError, TortieError
from tortie.net.addresses import Address
from tortie.resources.resource import ResourceKey, Revision
from tortie.resources.workload_endpoint import WORKLOAD_ENDPOINT

POD, OTHER = EndpointKey("default", "web"), EndpointKey("default", "db")
RESOURCE = ResourceKey(WORKLOAD_ENDPOINT, "web", "default")
ADDRESS = Address.parse("10.65.0.2")
ERROR = KernelError(19, "find the interface", "cali1")


def row(revision: str) -> EndpointRow:
    return EndpointRow(interface="cali1", addresses=(ADDRESS,), revision=revision)


def flush(put: Mapping[EndpointKey, EndpointRow], *gone: EndpointKey) -> Flush:
    return Flush(1, (Delta(ENDPOINTS, put, frozenset(gone)),), in_sync=True)


def failed(*keys: DesiredKey) -> Applied:
    return Applied(1, dict.fromkeys(keys, ERROR))


async def test_flushed_is_not_yet_real() -> None:
    realised = RealisedEndpoints()
    realised.flushed(flush({POD: row("1")}))
    assert not realised.is_real(POD)
    assert realised.applied(Applied(1)) == {POD}
    assert realised.is_real(POD)
    assert realised.applied(Applied(1)) == set()


@pytest.mark.parametrize("key", [DesiredKey(ENDPOINTS.name, POD), DesiredKey(ROUTES.name, ADDRESS.prefix)])
async def test_a_failing_part_makes_it_unreal_and_its_mending_real_again(key: DesiredKey) -> None:
    realised = RealisedEndpoints()
    realised.flushed(flush({POD: row("1")}))
    realised.applied(Applied(1))
    assert realised.applied(failed(key)) == {POD}
    assert not realised.is_real(POD)
    assert realised.error_of(POD) is ERROR
    assert realised.applied(Applied(1)) == {POD}
    assert realised.error_of(POD) is None


async def test_others_failures_do_not_concern_it() -> None:
    realised = RealisedEndpoints()
    realised.flushed(flush({POD: row("1"), OTHER: EndpointRow(interface="cali2", addresses=())}))
    assert realised.applied(failed(DesiredKey(ENDPOINTS.name, OTHER))) == {POD}


async def test_many_wait_for_different_revisions() -> None:
    waited: list[float] = []
    realised = RealisedEndpoints(waited.append)
    first = asyncio.ensure_future(realised.wait(RESOURCE, Revision("1"), timeout_seconds=5))
    second = asyncio.ensure_future(realised.wait(RESOURCE, Revision("2"), timeout_seconds=5))
    await asyncio.sleep(0)
    realised.flushed(flush({POD: row("1")}))
    realised.applied(Applied(1))
    await first
    assert not second.done()
    realised.flushed(flush({POD: row("2")}))
    realised.applied(Applied(2))
    await second
    assert len(waited) == 2
    await realised.wait(RESOURCE, Revision("2"), timeout_seconds=0)


async def test_one_that_goes_is_not_real_any_more() -> None:
    realised = RealisedEndpoints()
    realised.flushed(flush({POD: row("1")}))
    realised.applied(Applied(1))
    realised.flushed(flush({}, POD))
    assert not realised.is_real(POD)
    with pytest.raises(DeadlineExceeded):
        await realised.wait(RESOURCE, Revision("1"), timeout_seconds=0.01)


async def test_a_wait_that_is_cancelled_leaves_nothing() -> None:
    realised = RealisedEndpoints()
    waiting = asyncio.ensure_future(realised.wait(RESOURCE, Revision("1"), timeout_seconds=5))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert realised._waiters == {}


async def test_the_dataplanes_own_error_is_what_an_add_is_told() -> None:
    realised = RealisedEndpoints()
    realised.flushed(flush({POD: row("1")}))
    realised.applied(failed(DesiredKey(ENDPOINTS.name, POD)))
    with pytest.raises(TortieError, match="cannot find the interface cali1"):
        await realised.wait(RESOURCE, Revision("1"), timeout_seconds=0.01)


async def test_what_was_announced_is_real_under_the_revision_that_it_got() -> None:
    realised = RealisedEndpoints()
    realised.flushed(flush({POD: row("")}))
    early = asyncio.ensure_future(realised.wait(RESOURCE, Revision("7"), timeout_seconds=2))
    await asyncio.sleep(0)
    realised.stored(POD, "7")
    await asyncio.sleep(0)
    assert not early.done()
    realised.applied(Applied(1))
    await early
    await realised.wait(RESOURCE, Revision("7"), timeout_seconds=0)
    with pytest.raises(DeadlineExceeded):
        await realised.wait(RESOURCE, Revision("8"), timeout_seconds=0.01)
    realised.flushed(flush({POD: row("7")}))
    assert realised.is_real(POD)
    await realised.wait(RESOURCE, Revision("7"), timeout_seconds=0)


async def test_a_row_that_changed_beside_its_revision_is_not_real_yet() -> None:
    realised = RealisedEndpoints()
    realised.flushed(flush({POD: row("1")}))
    realised.applied(Applied(1))
    realised.stored(POD, "2")
    realised.flushed(flush({POD: EndpointRow(interface="cali9", addresses=(ADDRESS,), revision="2")}))
    assert not realised.is_real(POD)
    with pytest.raises(DeadlineExceeded):
        await realised.wait(RESOURCE, Revision("2"), timeout_seconds=0.01)
