"""One pod's network, from the request of a container runtime to an interface that works: ADD, DEL, CHECK, GC.

In: a `Sandbox` and what it asks for. Out: an `Attachment`, a WorkloadEndpoint in the datastore and a wire in the kernel.
Each `attach` completes or leaves nothing; its undo needs no memory, since names and handles derive from the container's id.
Not here: the runtime's protocol (``cni``, ``agent.cni_server``), who gets which address (``ipam``), the node's end of
routes and rules (``dataplane``, which the attach waits for).
"""
