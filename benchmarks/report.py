"""`python -m benchmarks.report results.json [--into document.md]`: the results as Markdown, one column a size."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import results
from .measure import Measured
from .results import Results
from .suite import SERVER
from .table import made_of, number

BEGINS, ENDS = "<!-- results -->\n", "<!-- end of results -->\n"
STORES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def markdown(found: Results) -> str:
    """The machine, a table for each store, and the server."""
    parts = [", ".join(f"{name} {value}" for name, value in found.machine.items()) + "."]
    for store, name in STORES.items():
        embedded = [one for one in found.measured if one.store == store and one.benchmark != SERVER]
        if embedded:
            parts.append(f"### {name}\n\n" + "\n".join(_table(embedded)))
    served = [one for one in found.measured if one.benchmark == SERVER]
    if served:
        parts.append("### The server\n\n" + "\n".join(_list(served)))
    return "\n\n".join(parts) + "\n"


def put_into(document: Path, found: Results) -> None:
    """Put the results in the place of those that a document has."""
    before, begins, rest = document.read_text().partition(BEGINS)
    _, ends, after = rest.partition(ENDS)
    if not (begins and ends):
        raise SystemExit(f"{document} has no {BEGINS.strip()} with {ENDS.strip()} after it.")
    document.write_text(f"{before}{BEGINS}\n{markdown(found)}\n{ENDS}{after}")


def _table(found: list[Measured]) -> Iterator[str]:
    sizes = sorted({one.events for one in found})
    yield f"| | mark | {' | '.join(f'{events:,}' for events in sizes)} |"
    yield "|---|---|" + "---:|" * len(sizes)
    for benchmark, what in dict.fromkeys((one.benchmark, one.what) for one in found):
        cells = {one.events: one for one in found if (one.benchmark, one.what) == (benchmark, what)}
        mark = next((str(one.mark) for one in cells.values() if one.mark is not None), "")
        shown = " | ".join(_cell(cells[events]) if events in cells else "" for events in sizes)
        yield f"| {benchmark}: {what} | {mark} | {shown} |"


def _cell(one: Measured) -> str:
    """The figure, and in brackets the first two that it was made of: ours and theirs."""
    of = [name for name in one.figures if not name.endswith(" x")][:2]
    units = list(dict.fromkeys(name.rpartition(" ")[2] for name in of))
    made = f" ({' / '.join(number(one.figures[name]) for name in of)} {units[0]})" if of else ""
    below = " **BELOW**" if one.verdict == "BELOW" else ""
    return f"{number(one.value)} {one.unit}{below}{made}"


def _list(found: list[Measured]) -> Iterator[str]:
    for one in found:
        yield f"- {one.what}: {number(one.value)} {one.unit}, {one.verdict}; {made_of(one.figures)}"


def main(arguments: Sequence[str]) -> int:
    """Print the Markdown, or put it into a document; give the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--into", type=Path, metavar="DOCUMENT", help="put it into a document, in the place of others")
    given = parser.parse_args(arguments)
    found = results.read(given.results)
    if given.into is None:
        print(markdown(found), end="")
    else:
        put_into(given.into, found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
