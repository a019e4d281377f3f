"""The fuzz for as long as somebody wants: ``python -m tests.fuzz --pairs 5000000 --seed 1``."""

from __future__ import annotations

import argparse
import time

from tests.fuzz.compare import HOSTS, PACKETS_A_SET, PODS, differences
from tests.fuzz.counts import Counts
from tests.fuzz.host_counts import HostCounts

AT_MOST = 5
"""So many differences are shown; then it ends."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Holds Tortie's verdict engine against the oracle.")
    parser.add_argument(
        "--pairs", type=int, default=2_000_000, help="how many pairs of a policy set and a packet"
    )
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="where to begin; a run with it is the same"
    )
    arguments = parser.parse_args()
    first = arguments.seed * 1_000_000
    sets = max(1, arguments.pairs // PACKETS_A_SET)
    shown = 0
    print(f"seed {arguments.seed}: {sets * PACKETS_A_SET} pairs, a third of them with nodes", flush=True)
    for realm, counts, share in ((PODS, Counts(), 2 / 3), (HOSTS, HostCounts(), 1 / 3)):
        seeds = range(first, first + max(1, int(sets * share)))
        for difference in differences(seeds, counts=counts, realm=realm):
            print(difference, end="\n\n", flush=True)
            shown += 1
            if shown == AT_MOST:
                break
        print("\n".join(counts.lines()))
        print(f"{shown} differences shown, {counts.pairs} pairs tried")
    return 1 if shown else 0


if __name__ == "__main__":
    raise SystemExit(main())
