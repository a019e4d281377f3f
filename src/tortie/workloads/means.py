"""What ADD and DEL work with, given by the agent that puts them together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tortie.aio.checkpoints import checkpoint
from tortie.cni.frames import DelegateEnd
from tortie.datastore.store import Store
from tortie.host.links import SegmentSizes
from tortie.ipam.allocator import Allocator
from tortie.kernel.pod_link import PodLinks
from tortie.resources.resource import ResourceKey, Revision
from tortie.workloads.live_facts import LiveFacts
from tortie.workloads.profiles import Profiles
from tortie.workloads.register import EndpointRegister

A = TypeVar("A")

Delegate = Callable[[str, str], Awaitable[DelegateEnd]]
"""Runs the delegated plugin of that name with that CNI_COMMAND, where the runtime's files are."""


class Realised(Protocol):
    """What an ADD waits for; ``agent.realised`` has it from the dataplane."""

    async def wait(self, endpoint: ResourceKey, revision: Revision, *, timeout_seconds: float) -> None:
        """Return when this very revision of the endpoint is in the kernel: interface, routes and rules.

        Raises `DeadlineExceeded`, or the error for which the dataplane could not make it real.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Means:
    """``mtu`` is what a configuration without one gets (0: the kernel's), ``segments`` what every wire gets;
    ``interface_prefix`` begins the name of each host end. All are asked for each ADD anew, since they may change under a
    running agent."""

    node: str
    store: Store
    allocator: Allocator
    register: EndpointRegister
    profiles: Profiles
    live: LiveFacts
    realised: Realised
    links: PodLinks
    mtu: Callable[[], int] = lambda: 0
    segments: Callable[[], SegmentSizes] = SegmentSizes
    interface_prefix: Callable[[], str] = lambda: "cali"
    realise_seconds: float = 30.0


async def passing(work: Awaitable[A], name: str) -> A:
    """Do it, and then be at a checkpoint."""
    done = await work
    checkpoint(name)
    return done
