"""What a node should hold, worked out from the resources of the whole cluster: synchronous, pure, incremental.

In: `resources.resource.Update`, in any order that ends at the truth. Out: the rows of ``desired``, as a function of the
current resources alone. Each module is one node of the graph; `graph` alone wires them. Not here: reading the datastore,
touching the kernel.
"""
