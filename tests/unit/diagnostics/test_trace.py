"""Where a packet was lost, as two nodes' traces tell it."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tortie.admin.fleet import Fleet
from tortie.diagnostics.ports import parse_port
from tortie.diagnostics.trace import tell, trace
from tortie.errors import TortieError, UsageError

ENDPOINTS = {
    "one": [{"namespace": "shop", "pod": "client", "addresses": ["10.0.0.1"], "interface": "cali1"}],
    "two": [{"namespace": "shop", "pod": "web", "addresses": ["10.0.1.1", "fd00::1"], "interface": "cali2"}],
    "via": [],
    "way": [],
}
ADDRESSES = {"one": "172.30.0.1", "two": "172.30.0.2", "via": "172.30.0.3", "way": "172.30.0.4"}


def event(
    chain: str,
    verdict: str = "accept",
    *,
    rule: str = "",
    policy: str = "",
    number: int = 1,
    ttl: int = 64,
) -> dict[str, Any]:
    return {
        "number": number,
        "family": "ip",
        "table": "tortie",
        "chain": chain,
        "kind": "rule" if rule else "policy",
        "verdict": verdict,
        "target": "",
        "rule": rule,
        "policy": policy,
        "ttl": ttl,
    }


IN, OUT = event("raw-prerouting"), event("nat-postrouting")
DROP = event("ingress/x", "drop", rule="drop", policy="NetworkPolicy shop/web")


class Client:
    """One node's agent: what it saw, what sending comes to, what it was asked."""

    def __init__(self, node: str, events: list[dict[str, Any]], came: str, refuses: bool) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._node = node
        self._events = events
        self._came = came
        self._refuses = refuses

    async def call(self, op: str, *, timeout_seconds: float = 10.0, **args: Any) -> Any:
        del timeout_seconds
        self.asked.append((op, args))
        match op:
            case "status":
                return {"addresses": [ADDRESSES[self._node]]}
            case "endpoints":
                return ENDPOINTS[self._node]
            case "interfaces":
                return []
            case "send":
                return {"came": self._came, "detail": "", "mtu": 1400}
            case "trace-start" if self._refuses:
                raise TortieError("a trace runs already")
            case "trace-stop":
                return self._events
            case _:
                return None


def fleet(one: list[dict[str, Any]], two: list[dict[str, Any]], came: str, refuses: bool = False) -> Fleet:
    clients = {"one": Client("one", one, came, False), "two": Client("two", two, came, refuses)}
    return Fleet(cast("Any", clients))


async def ask(found: Fleet, source: str = "shop/client", destination: str = "shop/web") -> Any:
    return await trace(found, source, destination, parse_port("80/tcp"), ip_version=None)


@pytest.mark.parametrize(
    ("one", "two", "came", "lost"),
    [
        ([IN, OUT], [IN, OUT], "answered", None),
        ([IN, OUT], [IN, OUT], "refused", None),
        ([IN, OUT], [IN, DROP], "no-answer", "on two by NetworkPolicy shop/web: drop"),
        ([IN, OUT], [], "no-answer", "between one and two"),
        ([IN], [], "no-answer", "no route, or its source"),
        ([], [], "no-answer", "before one saw it"),
        ([IN], [], "no-route", "on one: there is no route"),
        ([IN, OUT], [], "no-route", "beyond one, which sent it on: there is no route"),
        ([], [], "too-big", "in shop/client: it is bigger than the MTU of 1400"),
        ([IN], [], "too-big", "on one: it is bigger than the MTU of 1400"),
        ([IN, OUT], [], "too-big", "beyond one: it is bigger"),
        ([IN, event("f", rule="tcp reject with tcp reset")], [], "refused", "on one by chain ip tortie f"),
        ([IN, OUT, event("x", "drop", rule="drop", number=2)], [IN, OUT], "no-answer", None),
    ],
)
async def test_where_it_was_lost(
    one: list[dict[str, Any]], two: list[dict[str, Any]], came: str, lost: str | None
) -> None:
    found = await ask(fleet(one, two, came))
    if lost is None:
        assert found.lost is None
    else:
        assert lost in found.lost
    assert set(found.document()) == {"source", "destination", "came", "hops", "lost"}


def passing(ttl: int, *more: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**each, "ttl": ttl} for each in (IN, *(more or (OUT,)))]


@pytest.mark.parametrize(
    ("via", "way", "two", "lost"),
    [
        (passing(62), passing(63), passing(61), None),
        (passing(62), passing(63), [], "between via and two: it left the one and"),
        (passing(62, DROP), passing(63), [], "on via by NetworkPolicy shop/web: drop"),
        ([], passing(63)[:1], [], "on way, after it arrived and before it was forwarded"),
        (passing(62) + passing(60), passing(63) + passing(61), [], "in a circle: way, via, way"),
    ],
)
@pytest.mark.parametrize("came", ["no-answer", "no-route"])
async def test_nodes_in_between_are_followed_in_the_packets_order(
    via: list[dict[str, Any]],
    way: list[dict[str, Any]],
    two: list[dict[str, Any]],
    lost: str | None,
    came: str,
) -> None:
    told = {"via": via, "two": two, "way": way, "one": passing(64)}
    found = await ask(
        Fleet(cast("Any", {node: Client(node, events, came, False) for node, events in told.items()}))
    )
    order = [node for node in ("one", "way", "via", "two") if told[node]]
    assert list(dict.fromkeys(hop.node for hop in found.hops)) == order
    assert found.lost == lost or lost in found.lost


async def test_a_size_is_the_payloads_and_the_packet_is_more() -> None:
    for port, source, length in (
        ("53/udp", "shop/client", 1528),
        ("icmp", "shop/client", 1528),
        ("proto/47", "one", 1520),
    ):
        agents = fleet([], [], "too-big")
        found = await trace(agents, source, "shop/web", parse_port(port), ip_version=4, size=1500)
        assert found.lost is not None
        assert f"its {length} bytes are" in found.lost
        assert found.lost.startswith("in shop/client" if source == "shop/client" else "on one")
        assert dict(cast("Any", agents.clients["one"]).asked)["send"]["size"] == 1500


async def test_what_the_agents_are_asked() -> None:
    agents = fleet([IN], [IN], "answered")
    await ask(agents, destination="10.0.1.1")
    sent = dict(cast("Any", agents.clients["one"]).asked)
    assert sent["trace-start"] == {
        "sources": ["10.0.0.1", "172.30.0.1"],
        "destination": "10.0.1.1",
        "protocol": 6,
        "port": 80,
        "seconds": 20.0,
    }
    assert (sent["send"]["pod"], sent["send"]["source"]) == ("shop/client", "10.0.0.1")
    assert "send" not in dict(cast("Any", agents.clients["two"]).asked)


async def test_a_node_that_cannot_be_asked_is_told() -> None:
    found = await ask(fleet([IN, OUT], [], "no-answer", refuses=True))
    assert found.unheard == {"two": "a trace runs already"}
    assert found.lost is None
    assert "two could not be asked: a trace runs already" in "\n".join(tell(found))


@pytest.mark.parametrize(
    ("source", "destination", "says"),
    [
        ("shop/nobody", "shop/web", "shop/client, shop/web, two"),
        ("198.51.100.1", "shop/web", "sent from a pod or a node"),
        ("shop/client", "fd00::9", "share no version"),
    ],
)
async def test_what_cannot_be_tried(source: str, destination: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        await ask(fleet([], [], "answered"), source, destination)
