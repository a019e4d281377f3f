"""What a node should hold: the waist between the calculation and the dataplane.

In: nothing. Out: tables of rows, and the `Flush` that carries their changes. Rows are values of plain Python and ``net``;
they know neither resources nor the kernel. `order` says in which order tables become real.
"""
