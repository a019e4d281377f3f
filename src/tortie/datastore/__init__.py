"""Where the cluster's state is kept.

In: URLs and keys. Out: typed resources and their changes. `keyvalue` is etcd's promises over bytes (``sqlite``, ``etcd``),
`layout` says which key a resource has, `store` is the typed face over both, `syncer` turns it into batches for the calculation.
Not here: what a resource means (``resources``), who gets which address (``ipam``).
"""
