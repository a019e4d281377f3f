"""The datastore of clusters: etcd v3.4 and newer, by a client of our own.

`connection` finds a member that answers and speaks for us there, `watching` follows one prefix, `key_value` is the face,
``proto`` the part of etcd's interface that is used. Below it `calls` is gRPC, `http2` what carries it, `header_blocks` its
headers: no more of either than etcd asks for, in the event loop and without a thread (ADR 15).
"""
