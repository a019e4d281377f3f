"""The datastore of clusters: etcd v3.4 and newer, by a thin client of our own on grpc.aio.

`connection` finds a member that answers and speaks for us there, `watching` follows one prefix, `key_value` is the face,
``proto`` the part of etcd's interface that is used. Nothing outside this folder imports grpc.
"""
