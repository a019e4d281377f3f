"""Addresses: who has which, decided by compare-and-swap on single resources and in Calico's stored format.

In: a `Store`, a node's name, requests. Out: addresses that nobody else has. A pool is cut into blocks; a node claims
blocks (`affinity`), hands out their addresses (`allocator`), borrows from others' when its own are used up, and gives
back (`leaks` finds what was forgotten). `blocks` is the algebra inside one block, pure. Not here: interfaces, routes,
and whether a pod lives.
"""
