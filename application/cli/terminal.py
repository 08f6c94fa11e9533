"""The terminal: lines, tables and progress. Rich is loaded when something is drawn."""

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ...projections.projector import Progress as Folded

WIDTH_WHEN_PIPED = 160
"""Wide enough that lines of a table stay whole for what reads them."""


class Advance(Protocol):
    """What moves a progress bar."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """Show that so many of a total are done, with a note at the end of the bar."""
        ...


def say(line: str = "") -> None:
    """Print one line for people."""
    typer.echo(printable(line))


def printable(text: str) -> str:
    """`text` on one line with control characters written out: names come from outside and must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table; the columns in `right` hold numbers and stand at the right."""
    from rich import box  # noqa: PLC0415 - loaded when something is drawn
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False, header_style="bold")
    for column in columns:
        numeric = column in right
        drawn.add_column(column, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    terminal = console()
    with terminal.capture() as captured:
        terminal.print(drawn)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def without(place: int, cells: tuple[str, ...]) -> tuple[str, ...]:
    """A row without one of its cells, for a column that would say the same in every row."""
    return cells[:place] + cells[place + 1 :]


def console(*, stderr: bool = False) -> "Console":
    """Rich's console, with no meaning in any character of what it prints."""
    from rich.console import Console  # noqa: PLC0415 - loaded when something is drawn

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH_WHEN_PIPED
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


@contextmanager
def progress(doing: str, *, estimate: bool = True) -> Generator["Advance"]:
    """A progress bar on stderr, if that is a terminal; gives what moves it: (done, of how many, a note).

    It is drawn when it is first moved, and not at all for what is done by then. `estimate` shows the time that is left.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total, _note="": None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
    columns += [TimeRemainingColumn()] if estimate else [TextColumn("{task.fields[note]}")]
    bar = Progress(*columns, console=console(stderr=True), transient=True)
    task = bar.add_task(doing, total=None, note="")

    def advance(done: int, total: int, note: str = "") -> None:
        bar.update(task, completed=done, total=total, note=note)
        if done < total and not bar.live.is_started:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()


@contextmanager
def folding(doing: str) -> Generator[Callable[["Folded"], None]]:
    """A progress bar for what folds the ledger: the position it is at, the head, the rate and the time it needs."""
    with progress(doing, estimate=False) as advance:

        def folded(at: "Folded") -> None:
            rate = f"{at.events_per_second:,.0f} events/s, {at.seconds_left:,.0f} s left"
            advance(at.position, at.head, f"position {at.position:,} of {at.head:,}, {rate}")

        yield folded
