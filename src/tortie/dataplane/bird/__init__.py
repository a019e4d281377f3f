"""BIRD's configuration as part of the one dataplane.

In: the rows of ``desired.bgp``. Out: a ``bird.conf`` for Debian's BIRD 2, one process a node for both IP versions, and a running
BIRD that was told of it. Not here: starting BIRD (the service manager does), talking to its socket (``kernel.bird``).
"""
