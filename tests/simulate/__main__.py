"""`python -m tests.simulate --seed 1 --steps 40`: simulate seeds, and print the command that repeats a failure."""

import argparse
import logging
import sys
import time
from collections import Counter

from .mutants import MUTANTS
from .simulation import SimulationFailed, simulate
from .stores import STORES

TRACE_LINES = 12
"""The number of trace lines that are printed after a failure."""


def main() -> int:
    """Simulate the seeds of the command line. Return 0 if all pass, 1 at the first seed that fails."""
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
    print(f"{options.seeds} seeds, {options.steps} steps each, on {options.store}: all passed in {seconds:.1f} s")
    print(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the seed, or the first of several")
    parser.add_argument("--seeds", type=int, default=1, help="the number of seeds")
    parser.add_argument("--steps", type=int, default=40, help="the number of steps per seed")
    parser.add_argument("--store", choices=sorted(STORES), default="sqlite")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="a bug to plant in the package")
    parser.add_argument("--trace", action="store_true", help="print every operation")
    return parser.parse_args()


def _print_failure(seed: int, failed: SimulationFailed, options: argparse.Namespace) -> None:
    print("\n".join(failed.trace[-TRACE_LINES:]))
    print(f"seed {seed}, after step {failed.step}: {failed}")
    mutant = f" --mutant {options.mutant}" if options.mutant else ""
    print(f"Again: python -m tests.simulate --seed {seed} --steps {failed.step} --store {options.store}{mutant}")


if __name__ == "__main__":
    sys.exit(main())
