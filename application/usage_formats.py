"""The formats of usage files: bytes become rows, one at a time."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, BinaryIO, NamedTuple, cast

from ..domain.errors import InvalidImportFile
from .usage_columns import PAYLOAD_PREFIX

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class FileFormat(StrEnum):
    """How a usage file is written."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


class Row(NamedTuple):
    """One row: the line it begins on (in JSON, its number in the list), and its cells by column, or why it has none."""

    line: int
    cells: Mapping[str, object]
    error: InvalidImportFile | None = None


class Malformed(ValueError):
    """The file as a whole is not what it says; found at `line`, where that is known."""

    def __init__(self, said: str, line: int | None = None) -> None:
        super().__init__(said)
        self.line = line


def rows(file: BinaryIO, file_format: FileFormat) -> Iterator[Row]:
    """The rows of a file that stands at its beginning. Raises Malformed."""
    return _READERS[file_format](file)


def header(file: BinaryIO) -> list[str]:
    """The columns of a CSV file. Raises Malformed."""
    with _Text(file) as text:
        return _header(csv.reader(text, strict=True))


def _header(reader: Any) -> list[str]:
    try:
        names: list[str] = next(reader)
    except StopIteration:
        raise Malformed("it is empty") from None
    except csv.Error as error:
        raise Malformed(f"it is not CSV: {error}", 1) from error
    twice = {name for name in names if name and names.count(name) > 1}
    if twice:
        raise Malformed(f"it has more than one column {min(twice)!r}", 1)
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
                    yield _refused(line, f"The row has {len(cells)} cells, the header has {len(names)}.")
                line = reader.line_num + 1
        except csv.Error as error:
            raise Malformed(f"it is not CSV: {error}", line) from error


def _jsonl_rows(file: BinaryIO) -> Iterator[Row]:
    with _Text(file) as text:
        for line, written in enumerate(text, 1):
            if written.isspace():
                continue
            if line == 1 and written.lstrip().startswith("["):
                raise Malformed("it holds a list, not an object on each line (JSON, perhaps)", 1)
            try:
                found = json.loads(written, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_number)
            except (ValueError, RecursionError) as error:
                yield _refused(line, f"The line is not JSON: {error}.")
            else:
                yield _object_row(line, found)


def _json_rows(file: BinaryIO) -> Iterator[Row]:
    import ijson  # pyright: ignore[reportMissingTypeStubs]  # noqa: PLC0415 - an extra, for JSON files only

    opening = file.read(1024).removeprefix(BYTE_ORDER_MARK).lstrip()[:1]
    if opening != b"[":
        raise Malformed("it is not a list of objects" + (" (JSONL, perhaps)" if opening == b"{" else ""), 1)
    file.seek(len(BYTE_ORDER_MARK) if _is_marked(file) else 0)
    items = cast(Callable[..., Iterator[object]], ijson.items)
    number = 0
    try:
        for number, found in enumerate(items(file, "item", use_float=False), 1):
            yield _object_row(number, found)
    except (cast(type[Exception], ijson.JSONError), ValueError) as error:
        said = " ".join(str(error).split())
        raise Malformed(f"it is not JSON after object {number} of the list: {said}") from error


def _is_marked(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK


def _object_row(line: int, found: object) -> Row:
    if not isinstance(found, dict):
        return _refused(line, "Each row must be an object.")
    cells = cast(dict[str, object], found)
    payload = cells.pop("payload", None)
    if payload is None:
        return Row(line, cells)
    if not isinstance(payload, dict):
        return _refused(line, "'payload' must be an object of keys and values.", "payload")
    for key, value in cast(dict[str, object], payload).items():
        cells[PAYLOAD_PREFIX + key] = value
    return Row(line, cells)


def _refused(line: int, said: str, field: str = "row") -> Row:
    return Row(line, {}, InvalidImportFile(said, field=field))


def _no_number(written: str) -> object:
    raise ValueError(f"{written} is not a number of JSON")


class _Text(io.TextIOWrapper):
    """A file read as text, and left open at the end to be read again."""

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
