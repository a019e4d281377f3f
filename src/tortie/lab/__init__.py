"""A whole cluster on one machine: nodes are namespaces around a fabric bridge, and in each runs what a real node runs.

In: a `Topology`. Out: namespaces, processes, pods, all undone by `down`. The real agent, the real BIRD, the real CNI
plugin and the real datastore; only the machines and the container runtime are ours. Needs root, no Docker and no
virtual machine.
"""
