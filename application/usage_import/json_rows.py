"""Usage files in JSON (a list of objects) and JSONL (an object on each line), row by row.

One decoder reads both. Numbers keep the digits that are written in the file. What can't be a cell, for example a list,
becomes an `UnusableCell`, so that it only matters if the import needs the cell. An object becomes a `NestedCell`, whose
values are found by a path such as `data.tokens`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple, TextIO, cast

import msgspec

from ...domain.text import abbreviated_repr
from .cloud_events import from_cloud_event, is_cloud_event
from .encodings import UTF_8, DecodedText
from .formats import MalformedFile, Row, invalid_row

CHUNK_CHARACTERS = 1 << 16
MAX_ROW_CHARACTERS = 8 << 20
"""A longer row is rejected: its objects can take fifty times as much memory."""
PAYLOAD_PREFIX = "payload_"
"""The columns of the payload: `payload_KEY`."""
_SPACES = re.compile(r"[ \t\r\n]*")
_MAX_CACHED_LENGTH = 20
_MAX_TOKEN_CHARACTERS = len(r"\ud83d\ude00")
"""The parser places an error in an incomplete keyword, number or escape at most so far before the end."""
_MAX_SIMPLE_CHARACTERS = 10_000
"""A longer row is decoded once, by the exact decoder, because what isn't simple would be decoded twice."""
_TOO_DEEP = "it is nested too deeply"
_TOO_LONG = f"it is longer than {MAX_ROW_CHARACTERS:,} characters"


class UnusableCell(NamedTuple):
    """A JSON value that can't be a cell; its repr is its description, for error messages."""

    description: str

    def __repr__(self) -> str:
        return self.description


class NestedCell:
    """An object inside of a row; its repr is for error messages."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self.values = values

    def __repr__(self) -> str:
        return "an object"


class DuplicateKey(NamedTuple):
    """An object in which a key occurs twice, so that its value is ambiguous."""

    key: str


def nested_value(cells: Mapping[str, object], path: str) -> object:
    """Return the value at a path of keys, separated by points, inside of the objects of a row; None if there is none.

    A key may contain points too.
    """
    if path in cells:
        return to_cell(cells[path])
    for end, character in enumerate(path):
        if character == ".":
            cell = cells.get(path[:end])
            if isinstance(cell, NestedCell):
                cell = cell.values
            if isinstance(cell, dict):
                return nested_value(cast(dict[str, object], cell), path[end + 1 :])
    return None


def jsonl_rows(file: BinaryIO, encoding: str = UTF_8) -> Iterator[Row]:
    """Return the rows of a JSONL file that is positioned at its start. Raises MalformedFile."""
    with DecodedText(file, encoding) as text:
        for line, text_line in enumerate(text, 1):
            if text_line.isspace():
                continue
            if line == 1 and text_line.lstrip().startswith("["):
                raise MalformedFile("it contains a list, not an object on each line (JSON, perhaps)", 1)
            yield json_row(line, text_line)


def json_row(line: int, text: str) -> Row:
    """Return the row of an object in JSON; one with an error if the text is no object."""
    if len(text) > MAX_ROW_CHARACTERS:
        return invalid_row(line, 0, f"The line can't be read: {_TOO_LONG}.")
    simple_row = _simple_row(line, text) if len(text) <= _MAX_SIMPLE_CHARACTERS else None
    return simple_row or _exact_row(line, text, {})


def cloud_event_row(attributes: Mapping[str, str], data: str) -> Row:
    """Return the row of a CloudEvent in binary mode: its attributes, and its data in JSON."""
    if len(data) > MAX_ROW_CHARACTERS:
        return invalid_row(1, 0, f"The data can't be read: {_TOO_LONG}.")
    return _exact_row(1, data, attributes)


def _exact_row(line: int, text: str, attributes: Mapping[str, str]) -> Row:
    """Return the row of a text, which is the data of an event if there are attributes."""
    try:
        value = _decoder.decode(text)
    except RecursionError:
        return invalid_row(line, len(text), f"The line can't be read: {_TOO_DEEP}.", raw=text)
    except ValueError as error:
        return invalid_row(line, len(text), f"The line is not JSON: {error}.", raw=text)
    row = _to_row(line, {**attributes, "data": value} if attributes else value, len(text))
    return row if row.cells else msgspec.structs.replace(row, raw=text)


def json_rows(file: BinaryIO, encoding: str = UTF_8) -> Iterator[Row]:
    """Return the rows of a JSON file that is positioned at its start. Raises MalformedFile."""
    with DecodedText(file, encoding) as text:
        values = _ValueReader(text)
        first = values.next_character()
        if first != "[":
            raise MalformedFile("it is not a list of objects" + (" (JSONL, perhaps)" if first == "{" else ""), 1)
        values.skip_character()
        number = 0
        try:
            is_last = values.next_character() == "]"
            while not is_last:
                value, raw = values.read()
                number += 1
                row = _to_row(number, value, len(raw))
                yield row if row.cells else msgspec.structs.replace(row, raw=raw)
                separator = values.next_character()
                if separator not in ("]", ","):
                    raise MalformedFile(f"expected ',' or ']', not {separator!r}" if separator else "it ends here")
                is_last = separator == "]"
                if not is_last:
                    values.skip_character()
            values.skip_character()
            if values.next_character():
                raise MalformedFile("the file continues after the end of the list")
        except MalformedFile as error:
            raise MalformedFile(f"it is not JSON after object {number} of the list: {error}") from error


class _ValueReader:
    """Reads JSON values one by one from text, which is read in chunks."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._buffer = ""
        self._position = 0

    def next_character(self) -> str:
        """Return the next character that isn't a space, without skipping it; "" at the end of the text."""
        self._position = _end_of_spaces(self._buffer, self._position)
        while self._position == len(self._buffer) and self._read_more():
            self._position = _end_of_spaces(self._buffer, self._position)
        return self._buffer[self._position : self._position + 1]

    def skip_character(self) -> None:
        """Skip one character."""
        self._position += 1

    def read(self) -> tuple[object, str]:
        """Return the next value and its text. Raises MalformedFile."""
        self.next_character()
        while True:
            try:
                value, end = _decoder.raw_decode(self._buffer, self._position)
            except RecursionError:
                raise MalformedFile(_TOO_DEEP) from None
            except json.JSONDecodeError as error:
                if not self._may_be_incomplete(error) or not self._read_more():
                    raise MalformedFile(error.msg) from None
            except ValueError as error:
                raise MalformedFile(str(error)) from None
            else:
                # A number may continue after the buffer: "1" is a number, and so is "1e+5", of which "1e+" is read.
                is_complete = self._buffer[end - 1] in '}]"' or len(self._buffer) - end > len("e+")
                text = self._buffer[self._position : end]
                if is_complete or not self._read_more():
                    self._position += len(text)
                    return value, text

    def _may_be_incomplete(self, error: json.JSONDecodeError) -> bool:
        """Return whether a value is invalid perhaps only because it continues after the buffer."""
        is_at_end = len(self._buffer) - error.pos <= _MAX_TOKEN_CHARACTERS
        return is_at_end or error.msg.startswith("Unterminated string")

    def _read_more(self) -> bool:
        """Read as many characters as are pending, so that the time is proportional to the length of a value."""
        pending = self._buffer[self._position :]
        if len(pending) > MAX_ROW_CHARACTERS:
            raise MalformedFile(_TOO_LONG)
        doubled = min(2 * len(pending), MAX_ROW_CHARACTERS + 1)
        more = self._text.read(max(doubled - len(pending), CHUNK_CHARACTERS))
        self._buffer, self._position = pending + more, 0
        return bool(more)


def _simple_row(line: int, text: str) -> Row | None:
    """Return the row of an object of texts and numbers, perhaps with a `payload` of them; None for any other text.

    This takes a third of the time. As msgspec doesn't report a key that occurs twice, there have to be as many `":` as
    keys, and no key may have a space before its colon. And as it reads -0 as 0, no number may begin like that.
    """
    if " :" in text or ":-0" in text or " -0" in text or "\t" in text or "\r:" in text or "\r-" in text:
        return None
    try:
        cells = _decode_quickly(text)
    except (msgspec.DecodeError, ValueError, RecursionError):  # the other decoder says what is wrong
        return None
    colons = text.count('":') - len(cells)
    payload = cells.pop("payload", None)
    if type(payload) is dict:
        values = cast(dict[str, object], payload)
        columns = len(cells) + len(values)
        for key, value in values.items():
            cells[PAYLOAD_PREFIX + key] = value
        colons -= len(values) + len(cells) - columns  # a column and a key of the payload may have the same name
    elif payload is not None:
        return None
    if colons or "specversion" in cells:
        return None
    for value in cells.values():
        if type(value) is dict or type(value) is list:
            return None
    return Row(line, cells, len(text))


def _end_of_spaces(text: str, start: int) -> int:
    match = _SPACES.match(text, start)
    assert match is not None
    return match.end()


def _to_row(line: int, value: object, size: int) -> Row:
    if isinstance(value, DuplicateKey):
        return invalid_row(line, size, f"The key {abbreviated_repr(value.key)} occurs twice in the object.")
    if not isinstance(value, dict):
        return invalid_row(line, size, "Each row must be an object.")
    fields = cast(dict[str, object], value)
    if is_cloud_event(fields):
        fields = from_cloud_event(fields)
    payload = fields.pop("payload", None)
    if isinstance(payload, DuplicateKey):
        message = f"The key {abbreviated_repr(payload.key)} occurs twice in 'payload'."
        return invalid_row(line, size, message, "payload")
    if payload is not None and not isinstance(payload, dict):
        return invalid_row(line, size, "'payload' must be an object of keys and values.", "payload")
    cells = {column: to_cell(cell) for column, cell in fields.items()}
    for key, cell in cast(dict[str, object], payload or {}).items():
        column = PAYLOAD_PREFIX + key
        if column in cells:
            message = (
                f"'payload' has the key {abbreviated_repr(key)}, and the object has {abbreviated_repr(column)} too."
            )
            return invalid_row(line, size, message, "payload")
        cells[column] = to_cell(cell)
    return Row(line, cells, size)


def to_cell(value: object) -> object:
    """Return a value as a cell. Nested values may be so deep that their repr would exceed the stack."""
    if isinstance(value, dict):
        return NestedCell(cast(dict[str, object], value))
    if isinstance(value, list | DuplicateKey):
        return UnusableCell("a list" if isinstance(value, list) else "an object")
    return value


def _object(pairs: list[tuple[str, object]]) -> object:
    fields = dict(pairs)
    if len(fields) == len(pairs):
        return fields
    keys: set[str] = set()
    return next(DuplicateKey(key) for key, _ in pairs if key in keys or keys.add(key))


def _number(text: str) -> object:
    return _short_number(text) if len(text) <= _MAX_CACHED_LENGTH else _parse_number(text)


def _parse_number(text: str) -> object:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return UnusableCell(text)
    return number if number.is_finite() else UnusableCell(text)  # the program may not trap invalid numbers


def _reject_constant(constant: str) -> object:
    raise ValueError(f"{constant} is not a number in JSON")


_short_number = lru_cache(maxsize=1_000)(_parse_number)  # otherwise a list of zeros takes fifty times its length
_decode_quickly = msgspec.json.Decoder(dict[str, Any], float_hook=_number).decode
_decoder = json.JSONDecoder(
    parse_float=_number, parse_int=_number, parse_constant=_reject_constant, object_pairs_hook=_object
)
