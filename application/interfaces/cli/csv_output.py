"""Results as CSV: a row for each item of a list, with the fields of its JSON as columns."""

import codecs
import csv
import inspect
import json
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple, TextIO, Union, cast, get_args, get_origin, get_type_hints

import typer

from ...spreadsheet_text import escape_formulas
from ..formatting import to_plain
from .terminal import say

KEY_PREFIXES = {"dimensions": "dimension_", "payload": "payload_"}
"""The fields that are mappings with a column for each key, and the beginning of the names of these columns."""

_FIELD_NAMES = ("_fields", "model_fields")
"""The attributes with the names of the fields of a named tuple and of a pydantic model."""


class CsvRows(NamedTuple):
    """The rows of a CSV file. Each is an object of each type, of which all but the first may be None.

    A column that several objects have is taken from the last of them that isn't None. `note` is printed on stderr.
    """

    types: Sequence[type[Any]]
    rows: Sequence[Sequence[Any]]
    note: str = ""


class _Column(NamedTuple):
    name: str
    item: int
    path: Sequence[str]


def csv_stdout() -> TextIO:
    """Return stdout as a text stream in UTF-8, independent of the terminal's encoding, without newline translation."""
    return cast(TextIO, codecs.getwriter("utf-8")(typer.get_binary_stream("stdout")))


def print_csv(rows: CsvRows) -> None:
    """Print a header and the rows. The header depends on the types, and on the keys of dimensions and payloads.

    Numbers are plain decimal text and times RFC 3339 in UTC. A field of an object in a field is `field.name`. None is
    empty, and lists of objects are left out. Text that a spreadsheet would evaluate gets an apostrophe in front.
    """
    columns = [
        _Column(name, index, name.split(".")) for index, row_type in enumerate(rows.types) for name in _names(row_type)
    ]
    names = list(dict.fromkeys(column.name for column in columns))
    cells = [_cells(row, columns) for row in rows.rows]
    names += dict.fromkeys(name for row in cells for name in row if name not in names)
    file = csv_stdout()
    writer = csv.writer(file)
    writer.writerow(map(escape_formulas, names))
    writer.writerows([row.get(name, "") for name in names] for row in cells)
    file.flush()
    if rows.note:
        say(rows.note, err=True)


def _cells(row: Sequence[Any], columns: Sequence[_Column]) -> dict[str, str]:
    """Return the cells of a row by the names of their columns."""
    cells = {name: _text(_value(item, path)) for name, index, path in columns if (item := row[index]) is not None}
    for item in row:
        for field, prefix in KEY_PREFIXES.items():
            by_key: Mapping[str, object] = getattr(item, field, None) or {}
            cells.update((f"{prefix}{key}", _text(value)) for key, value in by_key.items())
    return cells


def _value(value: Any, path: Iterable[str]) -> Any:
    """Return the value at a path of fields; None if one of them is None."""
    for name in path:
        value = None if value is None else getattr(value, name)
    return value


@cache
def _names(row_type: type[Any]) -> Sequence[str]:
    """Return the names of the columns of a type: its fields, in the order of the JSON."""
    return tuple(_columns_of(row_type))


def _columns_of(row_type: type[Any]) -> Iterator[str]:
    for name, field_type in _fields(row_type):
        if name in KEY_PREFIXES or _is_list_of_objects(field_type):
            continue
        nested = [part for part in _parts(field_type) if _has_fields(part)]
        if len(nested) == 1:
            yield from (f"{name}.{column}" for column in _names(nested[0]))
        else:
            yield name


def _fields(row_type: type[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a type that its JSON has, and their types: also properties of a dataclass."""
    hints = get_type_hints(row_type)
    if is_dataclass(row_type):
        yield from ((field.name, hints[field.name]) for field in fields(row_type))
        for name, member in vars(row_type).items():
            if isinstance(member, property):
                yield name, get_type_hints(member.fget)["return"]
    else:
        names = next(getattr(row_type, attribute) for attribute in _FIELD_NAMES if hasattr(row_type, attribute))
        yield from ((name, hints[name]) for name in names)


def _has_fields(field_type: Any) -> bool:
    is_class = inspect.isclass(field_type)
    return is_class and (is_dataclass(field_type) or any(hasattr(field_type, name) for name in _FIELD_NAMES))


def _parts(field_type: Any) -> tuple[Any, ...]:
    """Return the types of a union, or a type alone."""
    return get_args(field_type) if get_origin(field_type) in (Union, types.UnionType) else (field_type,)


def _is_list_of_objects(field_type: Any) -> bool:
    return get_origin(field_type) in (tuple, list, Sequence) and any(map(_has_fields, get_args(field_type)))


def _text(value: object) -> str:
    """Return the cell of a value. Only text is escaped: numbers may be negative."""
    match value:
        case bool():
            return str(value).lower()
        case Decimal() | int() | datetime():
            return str(to_plain(value))
        case str() | Fraction():
            return escape_formulas(str(value))
        case list() | tuple() if all(isinstance(item, str) for item in cast(Iterable[object], value)):
            return escape_formulas(", ".join(cast(Iterable[str], value)))
        case _:
            return escape_formulas(json.dumps(to_plain(value), ensure_ascii=False)) if value else ""
