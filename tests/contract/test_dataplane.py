"""What every `Dataplane` promises: the Linux one in a network namespace, and the recording one that other tests stand on."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import pytest

from tortie.dataplane.api import Dataplane
from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.desired.endpoints import ENDPOINTS, EndpointKey, EndpointRow
from tortie.desired.routes import ROUTES, RouteRow
from tortie.desired.table import Delta, DesiredKey, Flush
from tortie.errors import KernelError
from tortie.net.addresses import Address, Prefix
from tortie.testing.recording import RecordingDataplane

pytestmark = pytest.mark.needs("netns", "nftables")

BLOCK, OTHER = Prefix.parse("10.65.0.0/26"), Prefix.parse("10.65.0.64/26")
BLACKHOLE = RouteRow(kind="blackhole", advertised=True)
POD = EndpointKey("default", "node1-k8s-web-eth0")
ADDRESS = Address.parse("10.65.1.1")
POD_ROW = EndpointRow(interface="cali0", addresses=(ADDRESS,), revision="1")
POD_ROUTE = RouteRow(kind="local-workload", interface="cali0")


class Subject(Protocol):
    """A dataplane, and what the suite must see and do behind its back."""

    @property
    def dataplane(self) -> Dataplane: ...

    def real(self) -> set[Prefix]:
        """The routes that are real."""
        ...

    def writes(self) -> int: ...

    def drift(self, prefix: Prefix) -> None:
        """Someone removes the route."""
        ...

    def mend(self) -> None:
        """The pod's interface, missing until now, is there."""
        ...

    def break_off(self) -> None:
        """The pod's interface goes."""
        ...


class Recording:
    def __init__(self) -> None:
        self.dataplane = RecordingDataplane()
        self.break_off()

    def real(self) -> set[Prefix]:
        return set(self.dataplane.real.get(ROUTES.name, {}))

    def writes(self) -> int:
        return len(self.dataplane.writes)

    def drift(self, prefix: Prefix) -> None:
        del self.dataplane.real[ROUTES.name][prefix]

    def mend(self) -> None:
        self.dataplane.failing.clear()

    def break_off(self) -> None:
        error = KernelError(19, "find the interface", "cali0")
        for key in (DesiredKey(ENDPOINTS.name, POD), DesiredKey(ROUTES.name, ADDRESS.prefix)):
            self.dataplane.failing[key] = error


class Linux:
    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self.dataplane = LinuxDataplane(namespace=namespace)

    def real(self) -> set[Prefix]:
        lines = self._ip("route", "show", "table", "main").splitlines()
        words = (line.split() for line in lines)
        return {Prefix.parse(first[1] if first[0] == "blackhole" else first[0]) for first in words}

    def writes(self) -> int:
        return self.dataplane.kernel_writes

    def drift(self, prefix: Prefix) -> None:
        self._ip("route", "del", "blackhole", str(prefix), "proto", "80")

    def mend(self) -> None:
        self._ip("link", "add", "cali0", "type", "veth", "peer", "name", "far0")
        self._ip("link", "set", "far0", "up")

    def break_off(self) -> None:
        self._ip("link", "del", "cali0")

    def _ip(self, *arguments: str) -> str:
        argv = ["ip", "-n", self._namespace, *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture(params=["recording", "linux"])
async def subject(request: pytest.FixtureRequest, netns: Callable[[], str]) -> AsyncIterator[Subject]:
    made: Recording | Linux = Recording() if request.param == "recording" else Linux(netns())
    await made.dataplane.start()
    yield made
    await made.dataplane.close()


def routes(put: dict[Prefix, RouteRow] | None = None, *gone: Prefix) -> Delta[Any, Any]:
    return Delta(ROUTES, put or {}, frozenset(gone))


def flush(generation: int, *deltas: Delta[Any, Any], in_sync: bool = True) -> Flush:
    return Flush(generation, deltas, in_sync=in_sync)


def pod() -> tuple[Delta[Any, Any], Delta[Any, Any]]:
    return Delta(ENDPOINTS, {POD: POD_ROW}), routes({ADDRESS.prefix: POD_ROUTE, BLOCK: BLACKHOLE})


async def test_until_in_sync_it_only_remembers(subject: Subject) -> None:
    applied = await subject.dataplane.apply(flush(1, routes({BLOCK: BLACKHOLE}), in_sync=False))
    assert applied.generation == 1
    await subject.dataplane.resync()
    assert subject.real() == set()
    assert subject.writes() == 0
    applied = await subject.dataplane.apply(flush(2, routes({OTHER: BLACKHOLE})))
    assert (applied.generation, applied.failed) == (2, {})
    assert subject.real() == {BLOCK, OTHER}


async def test_rows_go_and_what_is_gone_already_is_no_error(subject: Subject) -> None:
    await subject.dataplane.apply(flush(1, routes({BLOCK: BLACKHOLE, OTHER: BLACKHOLE})))
    subject.drift(BLOCK)
    applied = await subject.dataplane.apply(flush(2, routes(None, BLOCK, OTHER)))
    assert applied.failed == {}
    assert subject.real() == set()


async def test_what_is_real_already_is_not_written_again(subject: Subject) -> None:
    delta = routes({BLOCK: BLACKHOLE})
    await subject.dataplane.apply(flush(1, delta))
    before = subject.writes()
    for number in (2, 3):
        applied = await subject.dataplane.apply(flush(number, delta))
        assert applied.failed == {}
    assert subject.writes() == before


async def test_one_failure_is_named_and_stops_no_neighbour(subject: Subject) -> None:
    applied = await subject.dataplane.apply(flush(1, *pod()))
    assert set(applied.failed) == {DesiredKey(ENDPOINTS.name, POD), DesiredKey(ROUTES.name, ADDRESS.prefix)}
    assert "cali0" in str(applied.failed[DesiredKey(ENDPOINTS.name, POD)])
    assert subject.real() == {BLOCK}


async def test_a_failure_stays_named_until_a_later_apply_mends_it(subject: Subject) -> None:
    await subject.dataplane.apply(flush(1, *pod()))
    applied = await subject.dataplane.apply(flush(2, routes({OTHER: BLACKHOLE})))
    assert DesiredKey(ENDPOINTS.name, POD) in applied.failed
    subject.mend()
    applied = await subject.dataplane.apply(flush(2))
    assert applied.failed == {}
    assert subject.real() == {BLOCK, OTHER, ADDRESS.prefix}


async def test_a_failing_row_that_goes_is_no_failure_any_more(subject: Subject) -> None:
    await subject.dataplane.apply(flush(1, *pod()))
    gone: Delta[Any, Any] = Delta(ENDPOINTS, {}, frozenset({POD}))
    if isinstance(subject, Recording):
        subject.mend()
    applied = await subject.dataplane.apply(flush(2, gone, routes(None, ADDRESS.prefix)))
    assert applied.failed == {}
    assert subject.real() == {BLOCK}


async def test_resync_repairs_drift_and_retries_what_failed(subject: Subject) -> None:
    await subject.dataplane.apply(flush(1, *pod()))
    subject.drift(BLOCK)
    subject.mend()
    applied = await subject.dataplane.resync()
    assert (applied.generation, applied.failed) == (1, {})
    assert subject.real() == {BLOCK, ADDRESS.prefix}
    before = subject.writes()
    await subject.dataplane.resync()
    assert subject.writes() == before


async def test_what_is_real_stays_when_it_is_closed(subject: Subject) -> None:
    await subject.dataplane.apply(flush(1, routes({BLOCK: BLACKHOLE})))
    await subject.dataplane.close()
    assert subject.real() == {BLOCK}
