"""`python -m benchmarks [--events N] [--serving] [--seconds N] [--quick] [--json]`.

Exit status 1 where an answer is wrong.
"""

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from . import asking, folding, memory, recording, serving, usage
from .measure import Measured, WrongAnswer

FULL, QUICK = 1_000_000, 100_000
MOST_RECORDED = 200_000
LONG = 500_000
SERVED_SECONDS, QUICK_SERVED_SECONDS = 10.0, 3.0


def main(arguments: Sequence[str]) -> int:
    """Run all benchmarks and print them; give the exit status."""
    given = _parser().parse_args(arguments)
    events: int = given.events or (QUICK if given.quick else FULL)
    served_seconds: float = given.seconds or (QUICK_SERVED_SECONDS if given.quick else SERVED_SECONDS)
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "machine": f"{platform.system()} {platform.machine()}",
    }
    if not given.json:
        print(", ".join(f"{name} {value}" for name, value in machine.items()))
        print("Ratios to raw SQLite in this run; 1 is as fast, 2 twice as fast. For memory 1 is flat;")
        print("for the server 1 is the limit that Stripe publishes.\n")
    measured: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            for one in _measure(Path(folder), events, served_seconds, only_serving=given.serving):
                measured.append(one)
                if not given.json:
                    print(_line(one), flush=True)
        except WrongAnswer as wrong:
            print(f"WRONG ANSWER: {wrong}", file=sys.stderr)
            return 1
    if given.json:
        print(json.dumps({**machine, "events": events, "benchmarks": [asdict(one) for one in measured]}, indent=2))
    return 0


def _measure(folder: Path, events: int, served_seconds: float, *, only_serving: bool) -> Iterator[Measured]:
    if not only_serving:
        yield from _measure_embedded(folder, events)
    yield from serving.measure(f"sqlite:///{folder / 'served.db'}", served_seconds)


def _measure_embedded(folder: Path, events: int) -> Iterator[Measured]:
    times = 3 if events >= LONG else 5
    yield recording.measure(folder, min(events, MOST_RECORDED), 5)
    ledger = folder / "ledger.db"
    usage.record(ledger, events)
    yield folding.measure(ledger, events, times)
    yield from asking.measure(ledger, folder, events, 200)
    yield from memory.measure(folder, events)


def _line(one: Measured) -> str:
    verdict = "" if one.reached is None else "reached" if one.reached else "BELOW"
    figures = ", ".join(f"{name} {figure}" for name, figure in one.figures.items())
    return f"{one.name:<52} {one.ratio:>7.2f}  {one.mark:<9} {verdict:<8} {figures}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--events", type=int, help=f"how many events the large ledger holds ({FULL:,})")
    parser.add_argument("--serving", action="store_true", help="only the server under load")
    parser.add_argument("--seconds", type=float, help=f"how long each load on the server lasts ({SERVED_SECONDS:g})")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} events, in under a minute")
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
