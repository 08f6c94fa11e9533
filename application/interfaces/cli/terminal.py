"""The terminal: lines, tables, bar charts and progress bars. Rich is imported when it is needed."""

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ....projections.projector import Progress as ProjectionProgress

WIDTH_WHEN_PIPED = 160
"""Wide enough that no line of a table is wrapped for a program that reads it."""
BAR_WIDTH = 32
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Advance(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """Show `done` of `total` steps, with a note at the end of the bar."""
        ...


def say(line: str = "") -> None:
    """Print one line of text."""
    typer.echo(printable(line))


def printable(text: str) -> str:
    """Return `text` on one line with control characters escaped: names are input and must not control the terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table; the columns in `right` hold numbers and are aligned to the right."""
    from rich import box  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    rich_table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False, header_style="bold")
    for column in columns:
        is_number = column in right
        rich_table.add_column(column, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for row in rows:
        rich_table.add_row(*(Text(printable(cell)) for cell in row))
    rich_console = console()
    with rich_console.capture() as captured:
        rich_console.print(rich_table)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def without_column(index: int, cells: tuple[str, ...]) -> tuple[str, ...]:
    """Return a row without one cell, for a column with the same text in every row."""
    return cells[:index] + cells[index + 1 :]


def console(*, stderr: bool = False) -> "Console":
    """Return a Rich console that prints text as it is, without markup."""
    from rich.console import Console  # noqa: PLC0415 - slow to import

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH_WHEN_PIPED
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


@contextmanager
def progress_bar(task_name: str, *, estimate: bool = True) -> Generator["Advance"]:
    """Show a progress bar on stderr if that is a terminal; yield the function that moves it.

    The bar is drawn when it is first moved, and never for a task that is complete by then. `estimate` shows the
    remaining time.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total, _note="": None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
    columns += [TimeRemainingColumn()] if estimate else [TextColumn("{task.fields[note]}")]
    bar = Progress(*columns, console=console(stderr=True), transient=True)
    task = bar.add_task(task_name, total=None, note="")

    def advance(done: int, total: int, note: str = "") -> None:
        bar.update(task, completed=done, total=total, note=note)
        if done < total and not bar.live.is_started:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()


@contextmanager
def projection_progress(task_name: str) -> Generator[Callable[["ProjectionProgress"], None]]:
    """Show a progress bar for a projection: its position, the head of the ledger, the rate and the remaining time."""
    with progress_bar(task_name, estimate=False) as advance:

        def show(progress: "ProjectionProgress") -> None:
            rate = f"{progress.events_per_second:,.0f} events/s, {progress.seconds_left:,.0f} s left"
            note = f"position {progress.position:,} of {progress.head:,}, {rate}"
            advance(progress.position, progress.head, note)

        yield show


def bars(values: Sequence[Decimal], width: int = BAR_WIDTH) -> list[str]:
    """Return a bar for each value, the longest of `width` characters; bars of negative values are lighter.

    The bars are plain ASCII if stdout cannot print block characters.
    """
    longest = max((abs(value) for value in values), default=Decimal(0))
    draw = _block_bar if _can_print_blocks() else _ascii_bar
    return [draw(value, int(abs(value) * width * 8 / longest) if longest else 0) for value in values]


def _block_bar(value: Decimal, eighths: int) -> str:
    whole, rest = divmod(eighths, 8)
    if value < 0:
        return "░" * max(whole, 1)
    if value and not eighths:
        return "▏"
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _ascii_bar(value: Decimal, eighths: int) -> str:
    return ("-" if value < 0 else "#") * (max(eighths // 8, 1) if value else 0)


def _can_print_blocks() -> bool:
    try:
        "█░▏".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
