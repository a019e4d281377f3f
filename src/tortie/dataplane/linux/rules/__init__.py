"""What the tables ``ip tortie`` and ``ip6 tortie`` hold, as pure functions from rows to values of ``host.nft``.

A packet from a workload meets, in order: *raw prerouting* (is this interface known, and may it send from this source?),
*filter forward* or *input* (established flows pass; the verdict maps know every workload, and drop the rest), *nat postrouting*.
Policy joins as elements of the two verdict maps that go to chains of their own.
"""
