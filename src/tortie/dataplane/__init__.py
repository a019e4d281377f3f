"""Makes a node hold what ``desired`` says.

In: flushes. Out: `Applied`. Managers convert rows to values of ``host`` without I/O; drivers bring the kernel and BIRD in line
with these. Neither knows resources, selectors or the datastore.
"""
