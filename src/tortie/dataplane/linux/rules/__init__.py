"""What the tables ``ip tortie`` and ``ip6 tortie`` hold, as pure functions from rows to values of ``host.nft``.

A packet from a workload meets, in order: *raw prerouting* (is this interface known, and may it send from this source?), then
*filter forward* twice (what may leave the source, what may come to the destination) or *input* twice (what may leave the
source, what the node takes from workloads), at last *nat postrouting*. Established flows pass at once. A verdict map leads
from the interface to the chain of its *group*: endpoints that are treated alike. That walks chains of *tiers*, these walk
chains of *policies*, and profiles come last. Where HostEndpoints guard the node more chains stand on the hooks (`rules.host`).
"""
