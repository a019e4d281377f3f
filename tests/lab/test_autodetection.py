"""Each autodetection method on a node with two uplinks, against the machine as the kernel shows it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.lab.lab_command import LabCommand, lab
from tortie.agent.autodetect import HostInterface
from tortie.agent.bootstrap import NodeIdentity, ThisMachine, settle_node
from tortie.agent.node_options import node_options
from tortie.datastore.open import open_store
from tortie.errors import InvalidResource, UsageError
from tortie.kernel import netns
from tortie.net.addresses import Address, Version

pytestmark = pytest.mark.needs("netns", "bird")


class NodeMachine:
    """A lab node's network, seen from inside its namespace."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def interfaces(self) -> Sequence[HostInterface]:
        return netns.run(self._namespace, ThisMachine().interfaces)

    def source_towards(self, target: str, version: Version) -> Address | None:
        return netns.run(self._namespace, lambda: ThisMachine().source_towards(target, version))


@pytest.fixture(scope="module")
def shared() -> Iterator[LabCommand]:
    with lab(f"tt-{os.getpid()}-uplinks", "--nodes", "2", "--uplinks", "2") as made:
        made.add_pod("a", "node1")
        yield made


def settle(shared: LabCommand, folder: Path, said: dict[str, str], node: str = "other") -> NodeIdentity:
    """Set a node up by this environment, in the network of node1 and a datastore of its own."""

    async def run() -> NodeIdentity:
        store = open_store(f"sqlite://{folder}/t.db")
        try:
            return await settle_node(
                store, node_options(node, said), NodeMachine(shared.node("node1")["netns"])
            )
        finally:
            await store.close()

    return asyncio.run(run())


def addresses_of(shared: LabCommand, interface: str) -> str:
    """The IPv4 address of an uplink of node1, with its network's length."""
    words = shared.inside("node1", "ip", "-4", "-o", "addr", "show", "dev", interface).split()
    return words[words.index("inet") + 1]


@pytest.mark.parametrize(
    ("method", "interface"),
    [
        ("first-found", "eth0"),
        ("interface=eth1", "eth1"),
        ("interface=ens.*,eth[1-9]", "eth1"),
        ("skip-interface=eth0", "eth1"),
        ("cidr={eth1}", "eth1"),
        ("cidr={eth0}", "eth0"),
        ("can-reach={eth1}", "eth1"),
        ("can-reach={eth0}", "eth0"),
    ],
)
def test_methods(shared: LabCommand, tmp_path: Path, method: str, interface: str) -> None:
    uplinks = {name: addresses_of(shared, name) for name in ("eth0", "eth1")}
    if method.startswith("can-reach"):
        # Somebody else on the same network.
        uplinks = {name: _neighbour(address) for name, address in uplinks.items()}
    text = method.format(**uplinks)
    identity = settle(shared, tmp_path, {"IP": "autodetect", "IP_AUTODETECTION_METHOD": text})
    assert str(identity.ipv4) == addresses_of(shared, interface)


def _neighbour(address: str) -> str:
    host = address.partition("/")[0]
    head, _, last = host.rpartition(".")
    return f"{head}.{int(last) + 7}"


def test_a_pods_interface_is_never_taken(shared: LabCommand, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cali[0-9a-f]+ is passed over"):
        settle(shared, tmp_path, {"IP_AUTODETECTION_METHOD": "cidr=10.0.0.0/32"})


def test_the_running_agent_took_the_first(shared: LabCommand) -> None:
    assert shared.node("node1")["address"] == addresses_of(shared, "eth0").partition("/")[0]


def test_an_address_that_is_taken_is_refused(shared: LabCommand, tmp_path: Path) -> None:
    settle(shared, tmp_path, {})
    with pytest.raises(InvalidResource, match="is the address of the node other already"):
        settle(shared, tmp_path, {}, node="second")
