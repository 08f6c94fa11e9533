"""Measure the speed of Tallybook as ratios to its database engines. The exit status is 1 if a result is wrong."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from . import machine, results, table
from .measure import TURNS, Measurement, WrongResult
from .results import Results
from .suite import NAMES, SERVER, SHORT_NAMES, STORES, Plan, working_folder

SHORT, LONG = (300_000,), (100_000, 1_000_000, 10_000_000)
SERVER_SECONDS = 10.0
MIN_EVENTS = 1_000
STDOUT = Path("-")


def main(arguments: Sequence[str]) -> int:
    """Run the selected benchmarks, print each measurement as soon as it is available, and return the exit status."""
    options = parser().parse_args(arguments)
    output: Path | None = options.json
    progress_stream = sys.stderr if output == STDOUT else sys.stdout
    with working_folder(options.folder) as folder:
        saved = results.load_for_machine(machine.describe(folder), None if output == STDOUT else output)
        print(", ".join(f"{name} {value}" for name, value in saved.machine.items()), file=progress_stream)
        print(
            f"x is the ratio to the engine in the same run: 1 is equally fast, 2 is twice as fast.\n\n{table.HEADING}",
            file=progress_stream,
        )

        def print_start(engine: str, events: int) -> None:
            name, _, version = engine.partition(" ")
            if version:
                saved.machine[name] = version
            print(f"\n{engine}, {events:,} events" if events else f"\n{engine}", file=progress_stream, flush=True)

        try:
            for measurement in _plan(options).run(folder, print_start):
                print(table.format_line(measurement), file=progress_stream, flush=True)
                _save(saved, measurement, output)
        except WrongResult as error:
            print(f"WRONG RESULT: {error}", file=sys.stderr)
            return 1
    if output == STDOUT:
        print(saved.to_json(), end="")
    return 0


def _save(saved: Results, measurement: Measurement, output: Path | None) -> None:
    saved.add(measurement)
    if output is not None and output != STDOUT:
        saved.write(output)


def _plan(options: argparse.Namespace) -> Plan:
    names = (SERVER,) if options.serving else options.only or (NAMES if options.long else SHORT_NAMES)
    stores = options.store or STORES
    embedded = set(names) - {SERVER}
    return Plan(
        stores=stores if embedded else (),
        sizes=options.events or (LONG if options.long else SHORT),
        names=names,
        turns=options.turns,
        server_seconds=options.seconds,
        with_target_only=not (options.long or options.only),
        postgresql=options.postgresql,
    )


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("--long", action="store_true", help="all sizes and all benchmarks, in about an hour")
    options.add_argument("--store", action="append", choices=STORES, help="only this store (may be repeated)")
    options.add_argument("--events", action="append", type=_size, help="only this number of events (may be repeated)")
    options.add_argument("--only", action="append", choices=NAMES, help="only this benchmark (may be repeated)")
    options.add_argument("--turns", type=int, default=TURNS, help="how often each task runs (default: %(default)d)")
    options.add_argument("--serving", action="store_true", help="measure only the server under load")
    options.add_argument(
        "--seconds",
        type=float,
        default=SERVER_SECONDS,
        help="duration of each server load (default: %(default)g)",
    )
    options.add_argument("--postgresql", metavar="URL", help="use this database instead of starting a server")
    options.add_argument("--folder", type=Path, help="write the ledgers to this folder instead of the temporary folder")
    options.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="merge each measurement into this file; without FILE, print all of them at the end",
    )
    return options


def _size(text: str) -> int:
    size = int(text.replace(",", "").replace("_", ""))
    if size < MIN_EVENTS:
        raise argparse.ArgumentTypeError(f"{size} is too small: the minimum is {MIN_EVENTS:,}")
    return size


def _exit_on_signal(signal_number: int, _: object) -> None:
    """Exit as after an error, so that the temporary files are removed."""
    sys.exit(128 + signal_number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _exit_on_signal)
    sys.exit(main(sys.argv[1:]))
