"""One node's agent: everything wired together, in one process.

`main` is the composition root, the only place that knows all parts; `pipeline` carries what the datastore says through the
calculation to the dataplane; `realised` tells an ADD when its endpoint is real; `status` shows what is so; `admin_server` and
`cni_server` answer on Unix sockets. Not here: how anything is calculated (``calc``) or made real (``dataplane``).
"""
