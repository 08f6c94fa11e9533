"""How fast Tallybook is, as ratios to the engines under it in one run. Exit status 1 where an answer is wrong."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from . import machine, results, table
from .measure import TURNS, Measured, WrongAnswer
from .results import Results
from .suite import NAMES, SERVER, SHORT_NAMES, STORES, Plan, working_folder

SHORT, LONG = (300_000,), (100_000, 1_000_000, 10_000_000)
SERVED_SECONDS = 10.0
SMALLEST = 1_000
STDOUT = Path("-")


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for, and print each figure when it is there; give the exit status."""
    given = parser().parse_args(arguments)
    into: Path | None = given.json
    shown = sys.stderr if into == STDOUT else sys.stdout
    with working_folder(given.folder) as folder:
        kept = results.of_machine(machine.described(folder), None if into == STDOUT else into)
        print(", ".join(f"{name} {value}" for name, value in kept.machine.items()), file=shown)
        print(f"x is a ratio to the engine in this run: 1 is as fast, 2 twice as fast.\n\n{table.HEADING}", file=shown)

        def began(engine: str, events: int) -> None:
            name, _, version = engine.partition(" ")
            if version:
                kept.machine[name] = version
            print(f"\n{engine}, {events:,} events" if events else f"\n{engine}", file=shown, flush=True)

        try:
            for one in _plan(given).run(folder, began):
                print(table.line(one), file=shown, flush=True)
                _keep(kept, one, into)
        except WrongAnswer as wrong:
            print(f"WRONG ANSWER: {wrong}", file=sys.stderr)
            return 1
    if into == STDOUT:
        print(kept.json(), end="")
    return 0


def _keep(kept: Results, one: Measured, into: Path | None) -> None:
    kept.add(one)
    if into is not None and into != STDOUT:
        kept.write(into)


def _plan(given: argparse.Namespace) -> Plan:
    names = (SERVER,) if given.serving else given.only or (NAMES if given.long else SHORT_NAMES)
    stores = given.store or STORES
    embedded = set(names) - {SERVER}
    return Plan(
        stores=stores if embedded else (),
        sizes=given.events or (LONG if given.long else SHORT),
        names=names,
        turns=given.turns,
        served_seconds=given.seconds,
        marked_only=not (given.long or given.only),
        postgresql=given.postgresql,
    )


def parser() -> argparse.ArgumentParser:
    """What can be asked for."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("--long", action="store_true", help="all sizes and all benchmarks, in about fifty minutes")
    options.add_argument("--store", action="append", choices=STORES, help="only this store (may be repeated)")
    options.add_argument("--events", action="append", type=_size, help="only this number of events (may be repeated)")
    options.add_argument("--only", action="append", choices=NAMES, help="only this benchmark (may be repeated)")
    options.add_argument("--turns", type=int, default=TURNS, help="how often each is done (%(default)d)")
    options.add_argument("--serving", action="store_true", help="only the server under load")
    options.add_argument(
        "--seconds", type=float, default=SERVED_SECONDS, help="how long each load on the server lasts (%(default)g)"
    )
    options.add_argument("--postgresql", metavar="URL", help="a database to use, in place of a server of its own")
    options.add_argument("--folder", type=Path, help="where to put what is measured, in place of the temporary folder")
    options.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="merge the figures into a file as they come; without one, print all of them at the end",
    )
    return options


def _size(text: str) -> int:
    size = int(text.replace(",", "").replace("_", ""))
    if size < SMALLEST:
        raise argparse.ArgumentTypeError(f"at least {SMALLEST:,}")
    return size


def _end(number: int, _: object) -> None:
    """End as after an error, so that all that was written for the benchmarks is removed."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main(sys.argv[1:]))
