"""ADD and DEL as in `tests.bench.cni`, on a node that holds a thousand pods and five thousand policies.

The new pods are selected by one of these, and become members of its sets. Once also beside pods that have IPv6 addresses
too: then there are twice as many chains.
"""

from __future__ import annotations

import asyncio
import dataclasses
from concurrent.futures import ThreadPoolExecutor

from tests.bench import crowd
from tests.bench.cni import measure
from tests.bench.crowded_node import crowded
from tests.bench.figures import Figure
from tortie.kernel import netns
from tortie.resources.resource import Resource
from tortie.resources.rules import EntityRule, Rule


async def run() -> list[Figure]:
    figures: list[Figure] = []
    for datastore, versions in (("sqlite", (4,)), ("etcd", (4,)), ("sqlite", (4, 6))):
        with ThreadPoolExecutor(1) as thread:  # it enters the node's namespace and stays there
            figures += await asyncio.get_running_loop().run_in_executor(thread, _one, datastore, versions)
    return figures


def _one(datastore: str, versions: tuple[int, ...]) -> list[Figure]:
    with crowded(datastore, crowd.POLICIES, versions=versions, extra=(_everyone(),)) as (node, _):
        netns.enter_for_good(node.name)
        pods = "pods" if len(versions) == 1 else "dual-stack pods"
        where = f"{datastore}, beside {crowd.PODS:,} {pods} and {crowd.POLICIES:,} policies"
        return [
            dataclasses.replace(figure, subject="policy") for figure in measure(node, node.directory, where)
        ]


def _everyone() -> Resource[object]:
    """It selects the new pods too, and lets all pods in."""
    peer = EntityRule(selector="all()")
    return crowd.broad("everyone", 1.0, Rule(action="Allow", protocol="TCP", source=peer), selector="all()")
