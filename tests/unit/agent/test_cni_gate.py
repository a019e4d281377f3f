from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tortie.agent.cni_gate import Gate
from tortie.agent.cni_server import Handler
from tortie.cni.errors import CNIError, Code


class Noting:
    def __init__(self) -> None:
        self.calls: list[str] = []

    async def detach(self, *_: object) -> None:
        self.calls.append("DEL")

    async def status(self, *_: object) -> None:
        self.calls.append("STATUS")


NOTHING: Any = None


async def test_a_request_that_comes_early_waits_and_then_goes_through() -> None:
    gate, handler = Gate(lambda: ""), Noting()
    early = asyncio.ensure_future(gate.detach(NOTHING, None, NOTHING))
    await asyncio.sleep(0.01)
    assert not early.done()
    gate.open(cast("Handler", handler))
    await early
    await gate.detach(NOTHING, None, NOTHING)
    await gate.status(NOTHING, NOTHING)
    assert handler.calls == ["DEL", "DEL", "STATUS"]


async def test_one_that_waited_long_is_told_why() -> None:
    gate = Gate(lambda: "Datastore: etcd at 10.0.0.1:2379 does not answer", wait_seconds=0.01)
    with pytest.raises(
        CNIError, match=r"is not ready: Datastore: etcd at 10\.0\.0\.1:2379 does not answer"
    ) as caught:
        await gate.attach(NOTHING, 0, NOTHING)
    assert caught.value.code == Code.TRY_LATER


async def test_status_does_not_wait() -> None:
    gate = Gate(lambda: "")
    async with asyncio.timeout(1):
        with pytest.raises(CNIError, match="it is starting") as caught:
            await gate.status(NOTHING, NOTHING)
    assert caught.value.code == Code.NOT_AVAILABLE
