"""A process with a dataplane and nothing else, to be killed: ``python -m tests.kernel.dataplane_process NAMESPACE``.

Reads a pickled flush from standard input, applies it, says how many writes that took, and stays.
"""

from __future__ import annotations

import asyncio
import pickle
import sys

from tortie.dataplane.linux.plane import LinuxDataplane
from tortie.desired.table import Flush


async def main(namespace: str) -> None:
    flush = pickle.load(sys.stdin.buffer)
    assert isinstance(flush, Flush)
    plane = LinuxDataplane(namespace=namespace)
    await plane.start()
    applied = await plane.apply(flush)
    sys.stdout.write(f"{plane.kernel_writes} {len(applied.failed)}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
