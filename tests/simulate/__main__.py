"""`python -m tests.simulate --seed 1 --steps 40`: let seeds happen, and tell which command repeats what went wrong."""

import argparse
import logging
import sys
import time
from collections import Counter

from .canaries import CANARIES
from .stores import STORES
from .world import Failed, simulate

LAST = 12
"""How many of the last things that happened are shown."""


def main() -> int:
    """Run what the command line says; 0 where all was as it must be, 1 at the first seed for which it wasn't."""
    given = _arguments()
    logging.getLogger("tallybook").setLevel(logging.ERROR)
    counts: Counter[str] = Counter()
    began = time.monotonic()
    for seed in range(given.seed, given.seed + given.seeds):
        try:
            world = simulate(seed, given.steps, given.store, given.canary)
        except Failed as failed:
            _tell(seed, failed, given)
            return 1
        counts += world.counts
        if given.trace:
            print("\n".join(world.trace))
    seconds = time.monotonic() - began
    print(f"{given.seeds} seeds, {given.steps} steps each, on {given.store}: all as it must be, in {seconds:.1f} s")
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the seed, or the first of several")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    parser.add_argument("--steps", type=int, default=40, help="how much happens in each")
    parser.add_argument("--store", choices=sorted(STORES), default="sqlite")
    parser.add_argument("--canary", choices=sorted(CANARIES), help="a fault to be planted, which has to be found")
    parser.add_argument("--trace", action="store_true", help="tell all that happens")
    return parser.parse_args()


def _tell(seed: int, failed: Failed, given: argparse.Namespace) -> None:
    print("\n".join(failed.trace[-LAST:]))
    print(f"seed {seed}, after step {failed.step}: {failed}")
    canary = f" --canary {given.canary}" if given.canary else ""
    print(f"Again: python -m tests.simulate --seed {seed} --steps {failed.step} --store {given.store}{canary}")


if __name__ == "__main__":
    sys.exit(main())
