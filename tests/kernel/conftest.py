"""A node of its own, and a dataplane that has started in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.kernel.dataplane_world import World, started
from tests.kernel.policy_world import PolicyWorld
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


@pytest.fixture
async def policy(netns: Callable[[], str]) -> AsyncIterator[PolicyWorld]:
    world = World(netns)
    made = PolicyWorld(world, await started(world))
    await made.start()
    yield made
    await made.plane.close()
    made.close()
