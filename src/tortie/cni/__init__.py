"""The Container Network Interface, as data: https://www.cni.dev/docs/spec/

In: what the shim forwards (environment, network configuration). Out: typed requests, and results and errors as each
spec version writes them. `frames` is the conversation with the shim (``native/tortie-cni.c``), `install` puts shim and
configuration where a runtime looks. Pure but for `install`. Not here: the server (``agent.cni_server``) and what an ADD
does (``workloads``).
"""
