"""A node of its own, and a dataplane that has started in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.kernel.dataplane_world import World, started
from tortie.dataplane.linux.plane import LinuxDataplane


@pytest.fixture
def world(netns: Callable[[], str]) -> World:
    return World(netns)


@pytest.fixture
async def plane(world: World) -> AsyncIterator[LinuxDataplane]:
    plane = await started(world)
    yield plane
    await plane.close()
    world.close()
