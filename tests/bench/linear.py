"""The policies of `tests.bench.crowd` as chains of iptables, the way simple controllers write them.

The chain FORWARD lets established traffic through, then asks of every pod in turn whether the packet is to or from it; a pod's
chain asks its policies in turn; a policy's chain has a rule for every address that it lets in. Without ipset, which not every
kernel has. Whatever no policy of a pod wanted goes on, as `crowd.last_word` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.bench import crowd

RESTORE = ("iptables-nft-restore",)


def chains(pods: Iterable[int], policies: int) -> str:
    """What ``iptables-restore`` reads."""
    return "\n".join(("*filter", *_declared(list(pods), policies), "COMMIT", ""))


def _declared(pods: list[int], policies: int) -> Iterator[str]:
    for chain in ("INPUT", "FORWARD", "OUTPUT"):
        yield f":{chain} ACCEPT [0:0]"
    names = [f"{way}-{number}" for number in pods for way in ("to", "from")]
    names += [f"{way}-policy-{number}" for number in range(policies) for way in ("to", "from")]
    for name in names:
        yield f":{name} - [0:0]"
    yield "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    for number in pods:
        yield f"-A FORWARD -i {crowd.interface(number)} -j from-{number}"
        yield f"-A FORWARD -o {crowd.interface(number)} -j to-{number}"
    for number in pods:
        for policy in range(number % crowd.APPLICATIONS, policies, crowd.APPLICATIONS):
            yield f"-A from-{number} -j from-policy-{policy}"
            yield f"-A to-{number} -j to-policy-{policy}"
    for policy in range(policies):
        port = crowd.port_of(policy)
        for source in range(crowd.peer_of(policy), crowd.PODS, crowd.APPLICATIONS):
            match = f"-s {crowd.address(source)} -p tcp -m multiport --dports {port},8080:8090"
            yield f"-A to-policy-{policy} {match} -j ACCEPT"
        yield f"-A from-policy-{policy} -d 192.0.2.0/24 -p udp --dport {port} -j ACCEPT"
