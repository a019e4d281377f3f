"""The only door to Linux and to other programs: netlink, nft, conntrack, namespaces, sysctls, processes, BIRD's socket.

In and out: values of ``host``. Knows nothing of what the values are for.
"""
