"""What a machine holds, as values: links, addresses, routes, nft objects, conntrack flows, BIRD's sessions.

The kernel door reads and writes these; the dataplane compares them. Pure: a value here does no I/O.
"""
