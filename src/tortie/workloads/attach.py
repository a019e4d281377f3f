"""ADD: an interface that works, with an address of its own, or nothing at all.

What does not depend on each other runs side by side: the wire is made while the pod is read, the pod's end is set up while its
addresses and its endpoint are being stored, by one write where there is no endpoint yet; meanwhile the dataplane does the node's
part. See `checkpoints` for the steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

from tortie.aio.checkpoints import checkpoint
from tortie.aio.joins import Recall, both
from tortie.cni.errors import CNIError, Code
from tortie.cni.request import Request
from tortie.cni.result import DNS, Result, ResultAddress, ResultInterface, ResultRoute
from tortie.cni.result import parse as parse_result
from tortie.datastore.store import NOTHING, Unchanged
from tortie.ipam.allocator import Outdated
from tortie.kernel import netns
from tortie.kernel.pod_link import HOST_MAC, PodLink
from tortie.net.addresses import Address, Interface
from tortie.observe import log
from tortie.resources.resource import Resource, ResourceKey, Revision
from tortie.workloads.addresses import Assigned, source_of
from tortie.workloads.endpoint import attributes_of, build_endpoint, profiles_of
from tortie.workloads.facts import read_namespace, read_pod, recall_pod, require_ready
from tortie.workloads.means import Delegate, Means
from tortie.workloads.sandbox import Sandbox
from tortie.workloads.wishes import Wishes, read_wishes

_log = log.get("workloads")

UNDO_SECONDS = 20.0


async def attach(
    means: Means,
    sandbox: Sandbox,
    request: Request,
    namespace: int,
    delegate: Delegate,
    recall: Recall,
) -> Result:
    """Bring the sandbox into the network. The caller holds its locks.

    Again for the same container: the same addresses on a fresh wire. For a new sandbox of the same pod: it takes the old
    one's place, whose addresses go with the old one's DEL. Called off, it stops and undoes itself at the next step.

    Raises `TortieError`; then nothing is left but what the datastore kept us from giving back, and a DEL does that.
    """
    if netns.is_own(namespace):
        raise CNIError(
            Code.INVALID_ENVIRONMENT,
            f"CNI_NETNS: {sandbox.netns} is the node's own network namespace, not a pod's: a pod's routes and switches "
            "would cut the node off; a pod on the host's network needs no plugin",
        )
    await require_ready(means)
    checkpoint("add.ready")
    work = _Attachment(means, sandbox, request, namespace, delegate, recall)
    try:
        return await work.run()
    except BaseException as error:
        _log.info("an ADD is undone", sandbox=str(sandbox), reason=str(error) or repr(error))
        await _undo(work)
        raise


class _Prepared(NamedTuple):
    """What an ADD comes to, before the kernel has it."""

    assigned: Assigned
    endpoint: Resource[Any]
    link: PodLink


class _Attachment:
    """One ADD under way: what it has done so far."""

    def __init__(
        self,
        means: Means,
        sandbox: Sandbox,
        request: Request,
        namespace: int,
        delegate: Delegate,
        recall: Recall,
    ) -> None:
        self.means = means
        self.sandbox = sandbox
        self._source = source_of(means.allocator, sandbox, request, delegate)
        self._request = request
        self._namespace = namespace
        self._recall = recall
        self._makes_link = False
        self._takes_addresses = False
        self._has_addresses = False
        self._chosen: PodLink | None = None
        """With the addresses that it will have, if nobody is quicker."""
        self._choice = asyncio.Event()
        self._made = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._link = dataclasses.replace(
            sandbox.wire,
            mtu=request.config.mtu or means.mtu(),
            segments=means.segments(),
            forwarding=request.config.container_settings.allow_ip_forwarding,
        )

    async def run(self) -> Result:
        means, sandbox = self.means, self.sandbox
        if means.links.exists(sandbox.host_name):
            # An ADD before this one: it is replaced once we know that we can.
            prepared = await self._prepare()
            self._go_on()
            self._chosen = prepared.link
            _, revision = await both(self._wire(), self._publish(prepared))
        else:
            configured, (prepared, revision) = await both(self._wire(), self._store())
            self._go_on()
            if configured != prepared.link:
                # Others had the address first that we had in mind.
                self._chosen = prepared.link
                await self._wire()
        await self._realised(sandbox.endpoint, revision)
        checkpoint("add.realised")
        return self._result(prepared)

    async def undo(self) -> None:
        """In the order of DEL: nobody may get an address that still leads here."""
        if self._makes_link:
            await self.means.links.remove_inside(self._link, self._namespace)
            checkpoint("add.undo-link")
        if not self._takes_addresses:
            return
        if not self._has_addresses:
            # What is left of the write of addresses and endpoint must have ended before the endpoint is looked for.
            await self._source.release()
        await self.means.register.withdraw(self.sandbox.endpoint, self.sandbox.container_id)
        checkpoint("add.undo-endpoint")
        await self._source.release()
        checkpoint("add.undo-addresses")

    async def _wire(self) -> PodLink | None:
        """Make the wire, and set up the pod's end as soon as it is known with which addresses: the write that makes them
        ours is under way then. Returns how it is set up; None when nothing came of the addresses."""
        means, namespace = self.means, self._namespace
        self._makes_link = True
        try:
            link = await means.links.create(self._link, namespace, self._created)
        finally:
            self._made.set()
        if link is None:
            await self._choice.wait()
            link = self._chosen
            if link is None:
                return None
            await means.links.configure(link, namespace)
        checkpoint("add.configured")
        return link

    def _created(self) -> PodLink | None:
        """In the thread that made it."""
        checkpoint("add.created")
        self._loop.call_soon_threadsafe(self._made.set)
        return self._chosen

    async def _store(self) -> tuple[_Prepared, Revision]:
        try:
            prepared = await self._prepare()
            return prepared, await self._publish(prepared)
        finally:
            self._choice.set()

    async def _prepare(self) -> _Prepared:
        """Who the pod is, what it asks for, and its addresses; with them its endpoint is stored, where that can be."""
        recalled = recall_pod(self.means, self.sandbox)
        if recalled is not None:
            with contextlib.suppress(Outdated):
                return await self._assign(*recalled)
        return await self._assign(await read_pod(self.means, self.sandbox))

    async def _assign(self, pod: Resource[Any] | None, unchanged: Unchanged = NOTHING) -> _Prepared:
        """Raises `Outdated`, with nothing assigned, when the pod is not ``unchanged`` any more."""
        namespace = await read_namespace(self.means, self.sandbox)
        checkpoint("add.read")
        wishes = read_wishes(
            self._request.config,
            self._request.args,
            pod=pod.metadata.annotations if pod is not None else {},
            namespace=namespace.metadata.annotations if namespace is not None else {},
        )
        await self.means.profiles.ensure(profiles_of(self.sandbox, pod))
        checkpoint("add.profiles")

        def along(addresses: tuple[Address, ...]) -> Resource[Any]:
            self._choose(addresses, wishes)
            return self._endpoint(addresses, wishes, pod)

        now = datetime.datetime.now(datetime.UTC)
        attributes = attributes_of(self.sandbox, now.strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC"))
        labels: Mapping[str, str] = namespace.metadata.labels if namespace is not None else {}
        carried = self.means.register.may_be_carried(self.sandbox.endpoint)
        self._takes_addresses = True
        assigned = await self._source.assign(
            wishes, attributes, labels, along if carried else None, unchanged
        )
        if unchanged and assigned.stored is None:
            await self._confirm(unchanged)
        self._has_addresses = True
        checkpoint("add.assigned")
        link = self._choose(assigned.addresses, wishes)
        endpoint = assigned.stored or self._endpoint(assigned.addresses, wishes, pod)
        return _Prepared(assigned, endpoint, link)

    async def _confirm(self, unchanged: Unchanged) -> None:
        """No write has vouched for the pod. Raises `Outdated`, with the addresses given back."""
        pod = await read_pod(self.means, self.sandbox)
        for key, revision in unchanged.items():
            if revision != (pod.revision if pod is not None else None):
                await self._source.release()
                raise Outdated(str(key))

    def _choose(self, addresses: tuple[Address, ...], wishes: Wishes) -> PodLink:
        """These it will be, if nobody is quicker."""
        mac = wishes.mac or self._link.mac
        link = dataclasses.replace(self._link, addresses=addresses, mac=mac)
        if self._chosen is None:
            self._chosen = link
            self._choice.set()
        return link

    def _endpoint(
        self, addresses: tuple[Address, ...], wishes: Wishes, pod: Resource[Any] | None
    ) -> Resource[Any]:
        mac = wishes.mac or self._link.mac
        return build_endpoint(self.sandbox, addresses=addresses, mac=mac, wishes=wishes, pod=pod)

    async def _publish(self, prepared: _Prepared) -> Revision:
        await self._made.wait()  # the dataplane shall find the interface
        register = self.means.register
        if prepared.assigned.stored is not None:
            revision = register.carried(prepared.assigned.stored)
        else:
            revision = await register.publish(prepared.endpoint)
        checkpoint("add.published")
        return revision

    async def _realised(self, key: ResourceKey, revision: Revision) -> None:
        """Wait, unless the configuration says not to, and no longer than the runtime wants the container."""
        asked = self._request.config.policy_setup_timeout_seconds
        seconds = self.means.realise_seconds if asked is None else asked
        if not seconds:
            return
        await self._recall.wait(self.means.realised.wait(key, revision, timeout_seconds=seconds))
        self._go_on()

    def _go_on(self) -> None:
        if self._recall.called_off:
            message = f"{self.sandbox} was deleted by the runtime while it was being added"
            raise CNIError(Code.TRY_LATER, message)

    def _result(self, prepared: _Prepared) -> Result:
        """What the plugins before us did, and ours after it."""
        assigned, link = prepared.assigned, prepared.link
        previous = self._request.config.previous
        before = parse_result(previous) if previous is not None else Result()
        host = ResultInterface(name=self.sandbox.host_name, mac=HOST_MAC, mtu=link.mtu)
        pod = ResultInterface(
            name=self.sandbox.ifname, mac=link.mac, sandbox=self.sandbox.netns, mtu=link.mtu
        )
        interfaces = (*before.interfaces, host, pod)
        ips = tuple(
            ResultAddress(address=Interface(a, a.prefix.length), interface=len(interfaces) - 1)
            for a in assigned.addresses
        )
        routes = tuple(
            ResultRoute(destination=route.prefix, gateway=route.gateway)
            for route in link.routes()
            if route.gateway is not None
        )
        return Result(
            interfaces=interfaces,
            ips=(*before.ips, *ips),
            routes=(*before.routes, *routes),
            dns=before.dns if before.dns != DNS() else assigned.dns,
        )


async def _undo(work: _Attachment) -> None:
    """Never raises: the ADD's own error is what the runtime must hear, and its DEL gives back what we could not."""
    try:
        async with asyncio.timeout(UNDO_SECONDS):
            await work.undo()
    except Exception as error:
        _log.warning("an ADD could not be undone; DEL will", sandbox=str(work.sandbox), reason=repr(error))
