"""The formats of usage files: parse CSV, JSON and JSONL into rows, one at a time."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, BinaryIO, NamedTuple, cast

from ...domain.errors import InvalidImportFile
from .columns import PAYLOAD_PREFIX

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class FileFormat(StrEnum):
    """The format of a usage file."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


class Row(NamedTuple):
    """One row: its first line (in JSON, its number in the list), and its cells by column, or the error of the row."""

    line: int
    cells: Mapping[str, object]
    error: InvalidImportFile | None = None


class MalformedFile(ValueError):
    """The file is not valid in its format. `line` is where, if it is known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


def parse_rows(file: BinaryIO, file_format: FileFormat) -> Iterator[Row]:
    """Return the rows of a file that is positioned at its start. Raises MalformedFile."""
    return _READERS[file_format](file)


def read_header(file: BinaryIO) -> list[str]:
    """Return the columns of a CSV file. Raises MalformedFile."""
    with _Text(file) as text:
        return _header(csv.reader(text, strict=True))


def _header(reader: Any) -> list[str]:
    try:
        names: list[str] = next(reader)
    except StopIteration:
        raise MalformedFile("it is empty") from None
    except csv.Error as error:
        raise MalformedFile(f"it is not CSV: {error}", 1) from error
    duplicates = {name for name in names if name and names.count(name) > 1}
    if duplicates:
        raise MalformedFile(f"it has more than one column {min(duplicates)!r}", 1)
    return names


def _csv_rows(file: BinaryIO) -> Iterator[Row]:
    with _Text(file) as text:
        reader = csv.reader(text, strict=True)
        names = _header(reader)
        line = reader.line_num + 1
        try:
            for cells in reader:
                if len(cells) == len(names):
                    yield Row(line, dict(zip(names, cells, strict=True)))
                elif cells:
                    yield _invalid_row(line, f"The row has {len(cells)} cells, the header has {len(names)}.")
                line = reader.line_num + 1
        except csv.Error as error:
            raise MalformedFile(f"it is not CSV: {error}", line) from error


def _jsonl_rows(file: BinaryIO) -> Iterator[Row]:
    with _Text(file) as text:
        for line, text_line in enumerate(text, 1):
            if text_line.isspace():
                continue
            if line == 1 and text_line.lstrip().startswith("["):
                raise MalformedFile("it contains a list, not an object on each line (JSON, perhaps)", 1)
            try:
                value = json.loads(text_line, parse_float=Decimal, parse_int=Decimal, parse_constant=_reject_constant)
            except (ValueError, RecursionError) as error:
                yield _invalid_row(line, f"The line is not JSON: {error}.")
            else:
                yield _object_row(line, value)


def _json_rows(file: BinaryIO) -> Iterator[Row]:
    import ijson  # pyright: ignore[reportMissingTypeStubs]  # noqa: PLC0415 - an extra, for JSON files only

    first_byte = file.read(1024).removeprefix(BYTE_ORDER_MARK).lstrip()[:1]
    if first_byte != b"[":
        raise MalformedFile("it is not a list of objects" + (" (JSONL, perhaps)" if first_byte == b"{" else ""), 1)
    file.seek(len(BYTE_ORDER_MARK) if _has_byte_order_mark(file) else 0)
    items = cast(Callable[..., Iterator[object]], ijson.items)
    number = 0
    try:
        for number, value in enumerate(items(file, "item", use_float=False), 1):
            yield _object_row(number, value)
    except (cast(type[Exception], ijson.JSONError), ValueError) as error:
        problem = " ".join(str(error).split())
        raise MalformedFile(f"it is not JSON after object {number} of the list: {problem}") from error


def _has_byte_order_mark(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK


def _object_row(line: int, value: object) -> Row:
    if not isinstance(value, dict):
        return _invalid_row(line, "Each row must be an object.")
    cells = cast(dict[str, object], value)
    payload = cells.pop("payload", None)
    if payload is None:
        return Row(line, cells)
    if not isinstance(payload, dict):
        return _invalid_row(line, "'payload' must be an object of keys and values.", "payload")
    for key, cell in cast(dict[str, object], payload).items():
        cells[PAYLOAD_PREFIX + key] = cell
    return Row(line, cells)


def _invalid_row(line: int, message: str, field: str = "row") -> Row:
    return Row(line, {}, InvalidImportFile(message, field=field))


def _reject_constant(constant: str) -> object:
    raise ValueError(f"{constant} is not a number in JSON")


class _Text(io.TextIOWrapper):
    """Reads a file as text, and leaves it open so that it can be read again."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8-sig", newline="")

    def __exit__(self, *_: object) -> None:
        if not self.closed:
            self.detach()


_READERS: Mapping[FileFormat, Callable[[BinaryIO], Iterator[Row]]] = {
    FileFormat.CSV: _csv_rows,
    FileFormat.JSON: _json_rows,
    FileFormat.JSONL: _jsonl_rows,
}
