"""`python -m benchmarks.report results.json [--into document.md]`: formats the results as Markdown."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import results
from .measure import Measurement
from .results import Results
from .suite import SERVER
from .table import describe_figures, format_number

START_MARKER, END_MARKER = "<!-- results -->\n", "<!-- end of results -->\n"
STORES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def markdown(saved: Results) -> str:
    """Return the description of the machine, a table for each store, and a list for the server."""
    parts = [", ".join(f"{name} {value}" for name, value in saved.machine.items()) + "."]
    for store, name in STORES.items():
        embedded = [
            measurement
            for measurement in saved.measurements
            if measurement.store == store and measurement.benchmark != SERVER
        ]
        if embedded:
            parts.append(f"### {name}\n\n" + "\n".join(_table(embedded)))
    server_measurements = [measurement for measurement in saved.measurements if measurement.benchmark == SERVER]
    if server_measurements:
        parts.append("### The server\n\n" + "\n".join(_list(server_measurements)))
    return "\n\n".join(parts) + "\n"


def update_document(document: Path, saved: Results) -> None:
    """Replace the results in a document. Raises SystemExit if the document has no markers for them."""
    before, start_marker, rest = document.read_text().partition(START_MARKER)
    _, end_marker, after = rest.partition(END_MARKER)
    if not (start_marker and end_marker):
        raise SystemExit(f"{document} must contain {START_MARKER.strip()} followed by {END_MARKER.strip()}.")
    document.write_text(f"{before}{START_MARKER}\n{markdown(saved)}\n{END_MARKER}{after}")


def _table(measurements: list[Measurement]) -> Iterator[str]:
    sizes = sorted({measurement.events for measurement in measurements})
    yield f"| | target | {' | '.join(f'{events:,}' for events in sizes)} |"
    yield "|---|---|" + "---:|" * len(sizes)
    for benchmark, name in dict.fromkeys((measurement.benchmark, measurement.what) for measurement in measurements):
        cells = {
            measurement.events: measurement
            for measurement in measurements
            if (measurement.benchmark, measurement.what) == (benchmark, name)
        }
        target = next((str(measurement.target) for measurement in cells.values() if measurement.target is not None), "")
        row = " | ".join(_cell(cells[events]) if events in cells else "" for events in sizes)
        yield f"| {benchmark}: {name} | {target} | {row} |"


def _cell(measurement: Measurement) -> str:
    """Return the value, and in brackets the first two figures from which it was computed: ours and theirs."""
    names = [name for name in measurement.figures if not name.endswith(" x")][:2]
    units = list(dict.fromkeys(name.rpartition(" ")[2] for name in names))
    details = f" ({' / '.join(format_number(measurement.figures[name]) for name in names)} {units[0]})" if names else ""
    below = " **MISSED**" if measurement.verdict == "MISSED" else ""
    return f"{format_number(measurement.value)} {measurement.unit}{below}{details}"


def _list(measurements: list[Measurement]) -> Iterator[str]:
    for measurement in measurements:
        value = f"{format_number(measurement.value)} {measurement.unit}"
        yield f"- {measurement.what}: {value}, {measurement.verdict}; {describe_figures(measurement.figures)}"


def main(arguments: Sequence[str]) -> int:
    """Print the Markdown or insert it into a document, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--into", type=Path, metavar="DOCUMENT", help="replace the results in this document")
    options = parser.parse_args(arguments)
    saved = results.load(options.results)
    if options.into is None:
        print(markdown(saved), end="")
    else:
        update_document(options.into, saved)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
