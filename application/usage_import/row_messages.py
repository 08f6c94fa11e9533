"""Messages of a process that reads a file: its dialect, batches of rows, progress and errors, in MessagePack.

That process may be controlled by whoever wrote the file, so decoding a message only makes values of these types.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, cast

import msgspec
from msgspec.msgpack import Ext

from ...domain.errors import InvalidImportFile, InvalidParameter, InvalidRequest
from ...domain.text import is_valid_unicode
from .formats import ColumnBatch, FileDialect, Row, RowBatch
from .json_rows import DuplicateKey, NestedCell, UnusableCell


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A base of messages."""


class Opened(Message, frozen=True):
    """The file is open: its dialect, and its columns."""

    dialect: FileDialect
    columns: list[str] | None


class Progress(Message, frozen=True):
    """So many bytes are read."""

    read: int


class Columns(Message, frozen=True):
    """Rows with the same columns: the number of the line of each, and the cells of each column."""

    lines: list[int]
    names: list[Any]
    columns: list[list[Any]]


class Rows(Message, frozen=True):
    """Other rows: line, size, the message and field of the error, what was read, and columns and cells by turns."""

    rows: list[tuple[int, int, Any, Any, Any, list[Any]]]


class MeterNeeded(Message, frozen=True):
    """The keys of a meter are needed to go on."""

    event_name: str


class HeaderLine(Message, frozen=True):
    """The line of the header, if it was found."""

    line: int | None


class End(Message, frozen=True):
    """All rows are read."""


class Failed(Message, frozen=True):
    """The file can't be read: the code, message, field and value of the error."""

    code: str
    message: str
    field: str | None
    value: str | None

    @classmethod
    def of(cls, error: InvalidRequest) -> "Failed":
        """Return the message of an error."""
        return cls(error.code, error.message, error.field, None if error.value is None else str(error.value))

    def error(self) -> InvalidRequest:
        """Return the error."""
        error_class = InvalidParameter if self.code == InvalidParameter.code else InvalidImportFile
        return error_class(self.message, field=self.field, value=self.value)


class EncodedCell(NestedCell):
    """An object inside of a row, which is decoded if it is needed."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @cached_property
    def values(self) -> dict[str, object]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The values of the object."""
        return cast(dict[str, object], _decoder.decode(self._content))


_TEXT, _INTEGER, _DECIMAL, _DATETIME, _DATE, _TIME, _DURATION, _UNUSABLE, _DUPLICATE, _NESTED, _OBJECT = range(11)
_Pack = Callable[[Any], object]
_PLAIN = frozenset({str, int, bool, type(None)})
_MAX_INTEGER = (1 << 63) - 1


def _text(text: str) -> object:
    return text if is_valid_unicode(text) else Ext(_TEXT, text.encode(errors="surrogatepass"))


def _object(values: dict[str, object]) -> object:
    if all(map(is_valid_unicode, values)):
        return {key: pack(value) for key, value in values.items()}
    parts = [pack(part) for key_and_value in values.items() for part in key_and_value]
    return Ext(_OBJECT, _encoder.encode(parts))


def _nested(cell: NestedCell) -> object:
    try:
        return Ext(_NESTED, _encoder.encode(pack(dict(cell.values))))
    except RecursionError:
        return Ext(_UNUSABLE, b"an object that is nested too deeply")


def _as_text(kind: int, to_text: Callable[[Any], str]) -> _Pack:
    return lambda value: Ext(kind, to_text(value).encode(errors="surrogatepass"))


_PACK: dict[type, _Pack] = {
    str: _text,
    bool: lambda value: value,
    type(None): lambda value: value,
    float: lambda value: value,
    bytes: lambda value: value,
    int: lambda value: value if -_MAX_INTEGER <= value <= _MAX_INTEGER else Ext(_INTEGER, f"{value:x}".encode()),
    Decimal: _as_text(_DECIMAL, str),
    datetime: _as_text(_DATETIME, datetime.isoformat),
    date: _as_text(_DATE, date.isoformat),
    time: _as_text(_TIME, time.isoformat),
    timedelta: lambda value: Ext(_DURATION, f"{value.days} {value.seconds} {value.microseconds}".encode()),
    UnusableCell: _as_text(_UNUSABLE, lambda cell: cell.description),
    DuplicateKey: _as_text(_DUPLICATE, lambda value: value.key),
    NestedCell: _nested,
    dict: _object,
    list: lambda values: [pack(value) for value in values],
    tuple: lambda values: [pack(value) for value in values],
}
_UNPACK: dict[int, Callable[[str], object]] = {
    _TEXT: str,
    _INTEGER: lambda text: int(text, 16),
    _DECIMAL: Decimal,
    _DATETIME: datetime.fromisoformat,
    _DATE: date.fromisoformat,
    _TIME: time.fromisoformat,
    _DURATION: lambda text: timedelta(*map(int, text.split())),
    _UNUSABLE: UnusableCell,
    _DUPLICATE: DuplicateKey,
}


def pack(value: object) -> object:
    """Return a cell as a value that can be encoded."""
    for kind in type(value).__mro__:
        if (pack_value := _PACK.get(kind)) is not None:
            return pack_value(value)
    return Ext(_UNUSABLE, repr(value).encode(errors="surrogatepass"))


def _unpack(kind: int, content: memoryview) -> object:
    if kind == _NESTED:
        return EncodedCell(bytes(content))
    if kind == _OBJECT:
        parts = iter(cast(list[Any], _decoder.decode(content)))
        return dict(zip(parts, parts, strict=True))
    return _UNPACK[kind](str(content, "utf-8", "surrogatepass"))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ext_hook=_unpack)
_message_decoder = msgspec.msgpack.Decoder(
    Opened | Progress | Columns | Rows | MeterNeeded | HeaderLine | End | Failed, ext_hook=_unpack
)
decode = _message_decoder.decode
"""Returns a message. Raises msgspec.DecodeError and ValueError."""


def encode(message: Message) -> bytes:
    """Return a message as bytes."""
    return _encoder.encode(message)


def encode_batch(batch: RowBatch) -> bytes:
    """Return the message of a batch of rows as bytes."""
    names = batch.names
    if names is None:
        return _encoder.encode(Rows(list(map(_packed_row, batch.rows))))
    columns = list(map(batch.column, names))
    try:
        return _encoder.encode(Columns(batch.lines, names, list(map(_plain_column, columns))))
    except (UnicodeEncodeError, OverflowError):  # found only here, because looking for it takes as long
        packed = [[pack(cell) for cell in column] for column in columns]
        return _encoder.encode(Columns(batch.lines, list(map(pack, names)), packed))


def to_batch(message: Columns | Rows) -> RowBatch:
    """Return the batch of a message."""
    if isinstance(message, Columns):
        return ColumnBatch(message.names, message.lines, message.columns)
    return RowBatch(list(map(_row, message.rows)))


def _plain_column(column: Sequence[object]) -> list[Any]:
    """Return a column as it is if it has text and little else, whose types are found fast."""
    return list(column) if _PLAIN.issuperset(map(type, column)) else [pack(cell) for cell in column]


def _packed_row(row: Row) -> tuple[int, int, Any, Any, Any, list[Any]]:
    error = row.error
    cells = [pack(part) for column_and_cell in row.cells.items() for part in column_and_cell]
    message, field = (None, None) if error is None else (pack(error.message), error.field)
    return row.line, row.size, message, field, pack(row.raw), cells


def _row(packed: tuple[int, int, Any, Any, Any, list[Any]]) -> Row:
    line, size, message, field, raw, parts = packed
    cells = iter(parts)
    error = None if message is None else InvalidImportFile(message, field=field)
    return Row(line, dict(zip(cells, cells, strict=True)), size, error, raw)
