"""CSV is parsed by blocks of lines: no row is read differently than row by row."""

import csv
import io
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application.usage_import import csv_rows
from tallybook.application.usage_import.csv_dialect import CsvDialect, long_cells_allowed, read_csv_dialect
from tallybook.application.usage_import.csv_rows import csv_batches
from tallybook.application.usage_import.formats import MalformedFile

from ..sampling import examples

HEADER = '"a",b\r\n'
PARTS = [
    "x",
    "é",
    ",",
    "\n",
    "\r\n",
    "\r",
    '"',
    '"",',
    "a,b\n",
    "a,b\n",
    '"a\nb",c\n',
    '"a\r\n\n",c\n',
    'a,"b""\n"\n',
    "\0",
]
Rows = Sequence[tuple[int, Sequence[str]]]


def read_row_by_row(text: str) -> tuple[Rows, MalformedFile | None]:
    """Return the rows with any text, each with its first line, and the error that follows them."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    next(reader)
    rows: list[tuple[int, Sequence[str]]] = []
    line = reader.line_num + 1
    try:
        for cells in reader:
            if any(cells):
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        return rows, MalformedFile(f"it is not CSV: {error}", line)
    return rows, None


def read_by_blocks(text: str) -> tuple[Rows, MalformedFile | None]:
    rows: list[tuple[int, Sequence[str]]] = []
    dialect = CsvDialect("utf-8", ",", 0, 1, ("a", "b"))
    try:
        for batch in csv_batches(io.BytesIO(text.encode()), dialect):
            rows += zip(batch.lines, batch.cells, strict=True)
    except MalformedFile as error:
        return rows, error
    return rows, None


@settings(max_examples=examples(1_000))
@given(st.lists(st.sampled_from(PARTS), max_size=40).map("".join), st.integers(1, 30))
def test_rows_and_errors_have_the_same_lines(text: str, block_characters: int) -> None:
    """Whatever has several lines, and wherever a block ends. An error rejects the file, so rows before it may miss."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(csv_rows, "_BLOCK_CHARACTERS", block_characters)
        rows, error = read_by_blocks(HEADER + text)
    expected, expected_error = read_row_by_row(HEADER + text)
    assert rows == expected[: len(rows)]
    assert expected_error is not None or len(rows) == len(expected)
    assert (error and (str(error), error.line)) == (expected_error and (str(expected_error), expected_error.line))


def test_batches_have_a_limited_number_of_rows_and_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """They exceed the limit by two blocks at most, and by a long row at the end of one."""
    monkeypatch.setattr(csv_rows, "BATCH_ROWS", 50)
    monkeypatch.setattr(csv_rows, "MAX_BATCH_SIZE", 5_000)
    monkeypatch.setattr(csv_rows, "_BLOCK_CHARACTERS", 1_000)
    texts = ["x"] * 500 + ["x" * 300] * 100 + ["line\n" * 2_000] + ["x"] * 10
    content = "a,b\n" + "".join(f'"{text}",1\n\n' for text in texts)
    batches = list(csv_batches(io.BytesIO(content.encode()), CsvDialect("utf-8", ",", 0, 1, ("a", "b"))))
    assert [cells[0] for batch in batches for cells in batch.cells] == texts
    assert max(map(len, batches)) == 50
    *_, second_largest, largest = sorted(sum(len(cells[0]) for cells in batch.cells) for batch in batches)
    assert second_largest < 5_000 + 2 * (1_000 + 300)
    assert largest < 10_000 + 5_000 + 2 * (1_000 + 300)


def test_empty_cells_count_as_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes memory, also in a row of several lines, whose block is read row by row."""
    monkeypatch.setattr(csv_rows, "MAX_BATCH_SIZE", 5_000)
    columns = ",".join(f"c{number}" for number in range(1_000))
    row = '"a\nb"' + "," * 999 + "\n"
    dialect = CsvDialect("utf-8", ",", 0, 1, columns.split(","))
    batches = list(csv_batches(io.BytesIO(f"{columns}\n{row * 500}".encode()), dialect))
    assert sum(map(len, batches)) == 500
    assert max(map(len, batches)) <= 5 + 2 * 66  # rows in a block


def test_the_delimiter_is_found_in_few_characters() -> None:
    """A hundred long lines aren't in memory together. A long header is read whole."""
    header = "a;" + "b" * (2 << 20)
    content = f"{header}\n" + ("1;" + "2" * (1 << 20) + "\n") * 30
    file = io.BytesIO(content.encode())
    tracemalloc.start()
    try:
        with long_cells_allowed():
            dialect = read_csv_dialect(file, "utf-8", None, None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (dialect.delimiter, [len(name) for name in dialect.columns]) == (";", [1, 2 << 20])
    assert peak < 40 << 20
