"""DEL: everything that an ADD for this container made, or half made, goes; what another container has stays."""

from __future__ import annotations

import contextlib

from tortie.aio.checkpoints import checkpoint
from tortie.aio.joins import both
from tortie.cni.request import Request
from tortie.errors import StoreError
from tortie.ipam.allocator import Leaving, LeavingMoved
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
    try:
        await require_ready(means)
        checkpoint("del.read")
        if request.config.ipam.is_built_in and await _leave_together(means, sandbox, source):
            return
        # The endpoint before its addresses: nobody may get one that still leads here.
        ours = await means.register.withdraw(sandbox.endpoint, sandbox.container_id)
    except StoreError:
        await _unplug(means, sandbox, netns, sweep=False)
        raise
    checkpoint("del.withdrawn")
    await both(
        passing(_unplug(means, sandbox, netns, sweep=ours), "del.unplugged"),
        passing(source.release(), "del.released"),
    )


async def _leave_together(means: Means, sandbox: Sandbox, source: AddressSource) -> bool:
    """The usual case, in one write: an endpoint that stands as we wrote it goes with its addresses. False: not so."""
    endpoint = means.register.may_leave(sandbox.endpoint, sandbox.container_id)
    if endpoint is None:
        return False
    leaving = Leaving(endpoint)

    async def leave() -> None:
        with contextlib.suppress(LeavingMoved):
            await source.release(leaving)
        if leaving.gone:
            means.register.left(endpoint)
            checkpoint("del.withdrawn")
            checkpoint("del.released")

    # Our own ADD made it: no need to look into the pod's namespace to know whose the wire is.
    await both(passing(means.links.remove(endpoint.spec.interface_name), "del.unplugged"), leave())
    return leaving.gone


async def _unplug(means: Means, sandbox: Sandbox, netns: int | None, *, sweep: bool) -> None:
    """By the pod's end: the host's may be a newer sandbox's, which has the same name. When the namespace is gone or was
    not passed, what still bears the name is ours or a half ADD's, and to be swept unless it belongs to another."""
    if netns is not None and await means.links.remove_inside(sandbox.wire, netns):
        return
    if sweep:
        await means.links.remove(sandbox.host_name)
