"""`python -m tests.simulate --seed 1 --steps 40`: let seeds happen, and tell which command repeats what went wrong."""

import argparse
import logging
import sys
import time
from collections import Counter

from .mutants import MUTANTS
from .simulation import SimulationFailed, simulate
from .stores import STORES

TRACE_LINES = 12
"""How many of the last things that happened are shown."""


def main() -> int:
    """Run what the command line says; 0 where all was as it must be, 1 at the first seed for which it wasn't."""
    options = _arguments()
    logging.getLogger("tallybook").setLevel(logging.ERROR)
    counts: Counter[str] = Counter()
    started_at = time.monotonic()
    for seed in range(options.seed, options.seed + options.seeds):
        try:
            simulation = simulate(seed, options.steps, options.store, options.mutant)
        except SimulationFailed as failed:
            _print_failure(seed, failed, options)
            return 1
        counts += simulation.counts
        if options.trace:
            print("\n".join(simulation.trace))
    seconds = time.monotonic() - started_at
    print(
        f"{options.seeds} seeds, {options.steps} steps each, on {options.store}: all as it must be, in {seconds:.1f} s"
    )
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the seed, or the first of several")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds")
    parser.add_argument("--steps", type=int, default=40, help="how much happens in each")
    parser.add_argument("--store", choices=sorted(STORES), default="sqlite")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="a fault to be planted, which has to be found")
    parser.add_argument("--trace", action="store_true", help="tell all that happens")
    return parser.parse_args()


def _print_failure(seed: int, failed: SimulationFailed, options: argparse.Namespace) -> None:
    print("\n".join(failed.trace[-TRACE_LINES:]))
    print(f"seed {seed}, after step {failed.step}: {failed}")
    mutant = f" --mutant {options.mutant}" if options.mutant else ""
    print(f"Again: python -m tests.simulate --seed {seed} --steps {failed.step} --store {options.store}{mutant}")


if __name__ == "__main__":
    sys.exit(main())
