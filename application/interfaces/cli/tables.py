"""Tables and lists of fields that fit the terminal, in which every number is complete.

If a table is too wide, its text columns are folded first. If that isn't enough, each row becomes a block with a line
for each column. A number is never divided and never shortened.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain, islice
from typing import NamedTuple

from .terminal import BAR_WIDTH, bars, bold, can_print, echo_lines, format_name, printable, terminal_width

SAMPLE_ROWS = 1_000
"""The widths of columns are those of the first rows, so that a table of any length can be printed."""
MIN_TEXT_WIDTH = 10
"""A text column isn't folded to fewer characters. Dates fit."""
MIN_BAR_WIDTH = 4
_NUMBER = re.compile(r"[-+]?[0-9][-+0-9.,:TZ]*")
_GAP = "   "
_LABEL_WIDTH = 16


class _Column(NamedTuple):
    title: str
    is_number: bool
    is_folded: bool


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
    hidden: Collection[str] = (),
    bar_values: Sequence[Decimal | None] = (),
) -> None:
    """Print a table. Numbers, in the columns `right`, are aligned to the right; the columns `whole` aren't folded.

    The columns `hidden` are left out: those in which no row says anything.
    With `bar_values`, each row ends with the bar of its value, as far as there is room.
    """
    if hidden:
        shown = [index for index, title in enumerate(columns) if title not in hidden]
        columns, rows = [columns[index] for index in shown], ([row[index] for index in shown] for row in rows)
    layout = [_Column(title, title in right, title not in (*right, *whole)) for title in columns]
    remaining = (_printable_cells(row, layout) for row in rows)
    sample = list(islice(remaining, SAMPLE_ROWS))
    widths = _fit([max(map(display_width, cells)) for cells in zip(columns, *sample, strict=True)], layout)
    all_rows = chain(sample, remaining)
    if widths is None:
        echo_lines(_blocks(columns, all_rows))
        return
    if len(sample) == SAMPLE_ROWS and layout[-1].is_folded:  # a later row may have a longer text
        widths[-1] += max(terminal_width() - _total_width(widths), 0)
    used = _total_width(widths)
    bar_width = min(BAR_WIDTH, terminal_width() - used - len(_GAP)) if bar_values else 0
    row_bars: Sequence[str] = ()
    if bar_width >= MIN_BAR_WIDTH:
        row_bars, used = bars(bar_values, bar_width), used + len(_GAP) + bar_width
    rule = ("─" if can_print("─") else "-") * used
    alignments = (">" if column.is_number else "<" for column in layout)
    template = _GAP.join(f"{{:{align}{width}}}" for align, width in zip(alignments, widths, strict=True))
    echo_lines([*map(bold, _lines(columns, layout, widths, template)), rule])
    lines_of_rows = (_lines(row, layout, widths, template) for row in all_rows)
    echo_lines(
        _with_bars(lines_of_rows, _total_width(widths), row_bars) if row_bars else chain.from_iterable(lines_of_rows)
    )


def fields(values: Iterable[tuple[str, str]]) -> None:
    """Print a line for each label and value, or two if they don't fit into one. Control characters are escaped."""
    width = terminal_width()
    for label, value in ((label, printable(text)) for label, text in values):
        line = f"  {label:<{_LABEL_WIDTH}}{value}"
        fits = display_width(line) <= width
        echo_lines([line] if fits else [f"  {label}", *(f"    {part}" for part in fold(value.strip(), width - 4))])


def display_width(text: str) -> int:
    """Return the number of terminal cells that text takes: two for each East Asian wide character."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - slow to import

    return cell_len(text)


def fold(text: str, width: int) -> list[str]:
    """Return text in lines of at most `width` terminal cells, divided at spaces if possible, and never in a number."""
    lines: list[str] = []
    while text and display_width(text) > width:
        end = _longest_prefix(text, width)
        space = text.rfind(" ", 1, end + 1)
        if space < 0 and (number := _NUMBER.match(text)):
            end = max(number.end(), end)
            space = end if text[end : end + 1] == " " else -1
        lines.append(text[: end if space < 0 else space])
        text = text[end if space < 0 else space + 1 :]
    return [*lines, text] if text or not lines else lines


def _printable_cells(row: Sequence[str], layout: Sequence[_Column]) -> list[str]:
    return [cell if column.is_number else format_name(cell) for cell, column in zip(row, layout, strict=True)]


def _fit(widths: Sequence[int], layout: Sequence[_Column]) -> list[int] | None:
    """Return the widths with the widest text columns reduced to fit the terminal; None if they can't fit."""
    excess = _total_width(widths) - terminal_width()
    fitted = list(widths)
    while excess > 0:
        foldable = [
            (fitted[index], -index) for index, column in enumerate(layout)
            if column.is_folded and fitted[index] > MIN_TEXT_WIDTH
        ]  # fmt: skip
        if not foldable:
            return None
        fitted[-max(foldable)[1]] -= 1
        excess -= 1
    return fitted


def _with_bars(lines_of_rows: Iterable[Iterable[str]], width: int, row_bars: Iterable[str]) -> Iterator[str]:
    """Yield the lines of each row, the first of them with its bar."""
    for lines, bar in zip(lines_of_rows, row_bars, strict=True):
        first, *others = lines
        yield f"{first}{' ' * (width - display_width(first))}{_GAP}{bar}" if bar else first
        yield from others


def _lines(cells: Sequence[str], layout: Sequence[_Column], widths: Sequence[int], template: str) -> Iterator[str]:
    """Yield the lines of a row: more than one if a cell is folded. A longer number moves the cells after it."""
    line = template.format(*cells)
    if line.isascii() and len(line) == _total_width(widths):  # a fast path: no cell is longer than its column
        yield line.rstrip()
        return
    folded = [
        fold(cell, width) if column.is_folded else [cell]
        for cell, column, width in zip(cells, layout, widths, strict=True)
    ]
    for number in range(max(map(len, folded))):
        parts: list[str] = []
        for cell_lines, column, width in zip(folded, layout, widths, strict=True):
            text = cell_lines[number] if number < len(cell_lines) else ""
            padding = " " * (width - display_width(text))
            parts.append(padding + text if column.is_number else text + padding)
        yield _GAP.join(parts).rstrip()


def _total_width(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _blocks(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield each row as a block of lines, with an empty line before all but the first."""
    width = terminal_width()
    label_width = max(map(len, columns)) + 2
    for number, row in enumerate(rows):
        if number:
            yield ""
        for title, cell in zip(columns, row, strict=True):
            if label_width + display_width(cell) <= width:
                yield f"{title:<{label_width}}{cell}".rstrip()
            else:
                yield title
                yield from (f"  {part}" for part in fold(cell.strip(), width - 2))


def _longest_prefix(text: str, width: int) -> int:
    """Return the number of characters, at least 1, that fit into `width` terminal cells."""
    end = min(width, len(text))
    while end > 1 and display_width(text[:end]) > width:
        end -= 1
    return max(end, 1)
