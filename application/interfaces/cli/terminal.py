"""The terminal: lines, names, bar charts and progress bars. Rich is imported when it is needed."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from ....projections.projector import Progress as ProjectionProgress

WIDTH_WHEN_PIPED = 160
"""Wide enough that no line of a table is wrapped for a program that reads it."""
BAR_WIDTH = 32
_BATCH_LINES = 1_000
_HIDDEN_SPACE = re.compile(r"^ | $|(?<= ) ")
_EIGHTHS = " ▏▎▍▌▋▊▉"


class Advance(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, total: int | None, note: str = "", /) -> None:
        """Show `done` of `total` steps, or that their number is unknown, with a note at the end of the bar."""
        ...


def say(line: str = "", *, err: bool = False) -> None:
    """Print one line of text, on stderr with `err`."""
    typer.echo(printable(line), err=err)


def printable(text: str) -> str:
    """Return `text` on one line with control characters escaped: names are input and must not control the terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def format_name(name: str) -> str:
    r"""Return a name so that it is on one line and looks different from every other name.

    Spaces at its ends and double spaces are shown as \x20, characters that aren't shown as escapes, a backslash twice.
    """
    if name.isprintable() and "\\" not in name and "  " not in name and name.strip(" ") == name:
        return name
    if "\\" in name:
        name = name.replace("\\", r"\\")
    if name[:1] == " " or name[-1:] == " " or "  " in name:
        name = _HIDDEN_SPACE.sub(r"\\x20", name)
    return printable(name)


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines of text that are printable already, many at a time."""
    remaining = iter(lines)
    while batch := list(islice(remaining, _BATCH_LINES)):
        typer.echo("\n".join(batch))


def bold(line: str) -> str:
    """Return a line in bold if stdout is a terminal."""
    return typer.style(line, bold=True) if sys.stdout.isatty() else line


def without_column(index: int, cells: tuple[str, ...]) -> tuple[str, ...]:
    """Return a row without one cell, for a column with the same text in every row."""
    return cells[:index] + cells[index + 1 :]


def terminal_width() -> int:
    """Return the number of columns of the terminal, or a large number for a program that reads the output."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return shutil.get_terminal_size().columns
    return WIDTH_WHEN_PIPED


@contextmanager
def progress_bar(task_name: str, *, estimate: bool = True) -> Generator["Advance"]:
    """Show a progress bar on stderr if that is a terminal; yield the function that moves it.

    The bar is drawn when it is first moved, and never for a task that is complete by then. `estimate` shows the
    remaining time.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total, _note="": None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()]
    columns += [TimeRemainingColumn()] if estimate else [TextColumn("{task.fields[note]}")]
    bar = Progress(*columns, console=Console(stderr=True, markup=False, highlight=False, emoji=False), transient=True)
    task = bar.add_task(task_name, total=None, note="")

    def advance(done: int, total: int | None, note: str = "") -> None:
        bar.update(task, completed=done, total=total, note=note)
        if (total is None or done < total) and not bar.live.is_started:
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


def bars(values: Sequence[Decimal | None], width: int = BAR_WIDTH) -> list[str]:
    """Return a bar for each value, the longest of `width` characters; bars of negative values are lighter.

    The bar of None is empty.

    The bars are plain ASCII if stdout cannot print block characters.
    """
    sizes = [Decimal(0) if value is None else value for value in values]
    longest = max(map(abs, sizes), default=Decimal(0))
    draw = _block_bar if can_print("█░▏") else _ascii_bar
    return [draw(size, int(abs(size) * width * 8 / longest) if longest else 0) for size in sizes]


def _block_bar(value: Decimal, eighths: int) -> str:
    whole, rest = divmod(eighths, 8)
    if value < 0:
        return "░" * max(whole, 1)
    if value and not eighths:
        return "▏"
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _ascii_bar(value: Decimal, eighths: int) -> str:
    return ("-" if value < 0 else "#") * (max(eighths // 8, 1) if value else 0)


def can_print_unicode() -> bool:
    """Return whether the encoding of stdout has all of Unicode."""
    return can_print("\U0001f4d2")


def can_print(text: str) -> bool:
    """Return whether the encoding of stdout has these characters."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
