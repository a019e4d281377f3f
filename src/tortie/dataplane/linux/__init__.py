"""The kernel's part of the dataplane: interfaces, nftables, routes.

``rules`` says what the nftables objects are, from rows, purely. ``managers`` turn rows into what drivers should hold, without
I/O. ``drivers`` bring the kernel in line. ``plane`` alone knows in which order.
"""
