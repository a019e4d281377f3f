"""etcd's wire format, as far as Tortie uses it. ``*_pb2.py`` are generated from the ``.proto`` files beside them; a test
regenerates and compares them."""
