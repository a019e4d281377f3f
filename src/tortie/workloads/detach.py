"""DEL: everything that an ADD for this container made, or half made, goes; what another container has stays."""

from __future__ import annotations

from tortie.aio.checkpoints import checkpoint
from tortie.aio.joins import both
from tortie.cni.request import Request
from tortie.workloads.addresses import AddressSource, source_of
from tortie.workloads.facts import require_ready
from tortie.workloads.means import Delegate, Means, passing
from tortie.workloads.sandbox import Sandbox


async def detach(
    means: Means, sandbox: Sandbox, request: Request, netns: int | None, delegate: Delegate
) -> None:
    """Take the sandbox out of the network. The caller holds its locks. Twice is success, and so is a DEL without an ADD.

    Raises `StoreError` when the datastore is away (the wire goes all the same; the runtime asks again), `CNIError` of a
    delegated plugin, `KernelError`.
    """
    source = source_of(means.allocator, sandbox, request, delegate)
    _, had_link = await both(
        passing(require_ready(means), "del.read"),
        passing(_unplug(means, sandbox, netns), "del.unplugged"),
    )
    await withdraw(means, sandbox, source, had_link=had_link)


async def withdraw(means: Means, sandbox: Sandbox, source: AddressSource, *, had_link: bool) -> None:
    """The endpoint first, then its addresses: nobody may get one that still leads here."""
    ours = await means.register.withdraw(sandbox.endpoint, sandbox.container_id)
    checkpoint("del.withdrawn")
    if ours and not had_link:
        # The namespace is gone, or was not passed: what still bears the name is ours or a half ADD's.
        await means.links.remove(sandbox.host_name)
        checkpoint("del.swept")
    await source.release()
    checkpoint("del.released")


async def _unplug(means: Means, sandbox: Sandbox, netns: int | None) -> bool:
    """By the pod's end: the host's may be a newer sandbox's, which has the same name."""
    return netns is not None and await means.links.remove_inside(sandbox.wire, netns)
