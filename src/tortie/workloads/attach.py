"""ADD: an interface that works, with an address of its own, or nothing at all.

What does not depend on each other runs side by side: the wire is made while the datastore learns of the endpoint and the
dataplane does the node's part. See `checkpoints` for the steps.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from collections.abc import Mapping

from tortie.aio.checkpoints import checkpoint
from tortie.aio.joins import Recall, both
from tortie.cni.errors import CNIError, Code
from tortie.cni.request import Request
from tortie.cni.result import DNS, Result, ResultAddress, ResultInterface, ResultRoute
from tortie.cni.result import parse as parse_result
from tortie.kernel.pod_link import HOST_MAC
from tortie.net.addresses import Interface
from tortie.observe import log
from tortie.resources.resource import ResourceKey, Revision
from tortie.workloads.addresses import AddressSource, Assigned, source_of
from tortie.workloads.endpoint import attributes_of, build_endpoint, profiles_of
from tortie.workloads.facts import Facts, read_facts
from tortie.workloads.means import Delegate, Means, passing
from tortie.workloads.sandbox import Sandbox
from tortie.workloads.wishes import Wishes, read_wishes

_log = log.get("workloads")

UNDO_SECONDS = 20.0


async def attach(
    means: Means,
    sandbox: Sandbox,
    request: Request,
    netns: int,
    delegate: Delegate,
    recall: Recall,
) -> Result:
    """Bring the sandbox into the network. The caller holds its locks.

    Again for the same container: the same addresses on a fresh wire. For a new sandbox of the same pod: it takes the old
    one's place, whose addresses go with the old one's DEL. Called off, it stops and undoes itself at the next step.

    Raises `TortieError`; then nothing is left but what the datastore kept us from giving back, and a DEL does that.
    """
    source = source_of(means.allocator, sandbox, request, delegate)
    facts = await read_facts(means, sandbox)
    wishes = read_wishes(
        request.config,
        request.args,
        pod=facts.pod.metadata.annotations if facts.pod else {},
        namespace=facts.namespace.metadata.annotations if facts.namespace else {},
    )
    checkpoint("add.read")
    work = _Attachment(means, sandbox, request, netns, facts, wishes, source, recall)
    try:
        return await work.run()
    except BaseException as error:
        _log.info("an ADD is undone", sandbox=str(sandbox), reason=str(error) or repr(error))
        await _undo(work)
        raise


class _Attachment:
    """One ADD under way: what it has done so far."""

    def __init__(
        self,
        means: Means,
        sandbox: Sandbox,
        request: Request,
        netns: int,
        facts: Facts,
        wishes: Wishes,
        source: AddressSource,
        recall: Recall,
    ) -> None:
        self.means = means
        self.sandbox = sandbox
        self.source = source
        self._request = request
        self._netns = netns
        self._facts = facts
        self._wishes = wishes
        self._recall = recall
        self._link = dataclasses.replace(
            sandbox.wire,
            mac=wishes.mac or sandbox.wire.mac,
            mtu=request.config.mtu or means.mtu(),
            forwarding=request.config.container_settings.allow_ip_forwarding,
        )

    async def run(self) -> Result:
        means, sandbox = self.means, self.sandbox
        profiles = profiles_of(sandbox, self._facts.pod)
        assigned, _ = await both(
            passing(self._assign(), "add.assigned"), passing(means.profiles.ensure(profiles), "add.profiles")
        )
        self._go_on()
        self._link = dataclasses.replace(self._link, addresses=assigned.addresses)
        endpoint = build_endpoint(
            sandbox,
            addresses=assigned.addresses,
            mac=self._link.mac,
            wishes=self._wishes,
            pod=self._facts.pod,
        )
        _, revision = await both(
            passing(means.links.connect(self._link, self._netns), "add.connected"),
            passing(means.register.publish(endpoint), "add.published"),
        )
        await self._realised(endpoint.key, revision)
        checkpoint("add.realised")
        return self._result(assigned)

    async def undo(self) -> None:
        """In the order of DEL: nobody may get an address that still leads here."""
        await self.means.links.remove_inside(self._link, self._netns)
        checkpoint("add.undo-link")
        await self.means.register.withdraw(self.sandbox.endpoint, self.sandbox.container_id)
        checkpoint("add.undo-endpoint")
        await self.source.release()
        checkpoint("add.undo-addresses")

    async def _assign(self) -> Assigned:
        now = datetime.datetime.now(datetime.UTC)
        timestamp = now.strftime("%Y-%m-%d %H:%M:%S.%f +0000 UTC")
        attributes = attributes_of(self.sandbox, timestamp)
        namespace = self._facts.namespace
        labels: Mapping[str, str] = namespace.metadata.labels if namespace is not None else {}
        return await self.source.assign(self._wishes, attributes, labels)

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

    def _result(self, assigned: Assigned) -> Result:
        """What the plugins before us did, and ours after it."""
        previous = self._request.config.previous
        before = parse_result(previous) if previous is not None else Result()
        host = ResultInterface(name=self.sandbox.host_name, mac=HOST_MAC, mtu=self._link.mtu)
        pod = ResultInterface(
            name=self.sandbox.ifname, mac=self._link.mac, sandbox=self.sandbox.netns, mtu=self._link.mtu
        )
        interfaces = (*before.interfaces, host, pod)
        ips = tuple(
            ResultAddress(address=Interface(a, a.prefix.length), interface=len(interfaces) - 1)
            for a in assigned.addresses
        )
        routes = tuple(
            ResultRoute(destination=route.prefix, gateway=route.gateway)
            for route in self._link.routes()
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
