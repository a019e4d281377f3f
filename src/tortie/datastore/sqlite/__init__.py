"""The default datastore: one SQLite file with etcd's promises, shared by all processes of one machine.

`schema` opens and creates the file, `log` is the versioned log inside it (synchronous), `notice` wakes watchers of other
processes, `worker` is the one thread that touches the file, `key_value` the asyncio face.

What a crash leaves: a process that is killed at any moment loses no acknowledged write and holds no lock. Power loss is
another matter: with ``synchronous=NORMAL`` the last writes before it may be missing (never half of one);
``sqlite:///path?synchronous=full`` waits for the disk at every write, at a fifth of the speed.
"""
