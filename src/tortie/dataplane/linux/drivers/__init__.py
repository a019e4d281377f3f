"""Values of ``host`` to the kernel: each driver reads one sort of object and brings it in line, idempotently."""
