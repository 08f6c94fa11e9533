"""JSONL is read by two decoders: the quick one reads no line differently from the one of JSON lists."""

import io
import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application.usage_import.json_rows import json_rows, jsonl_rows
from tallybook.application.usage_import.row_names import RowNames

from ..sampling import examples

LINES = [
    '{"a": 1, "payload": {"b": "2"}}',
    '{"a": 1, "a": 2}',
    '{"a" : 1, "a": 2}',
    '{"a"\t: 1, "a": 2}',
    '{"a":1,"\\u0061":2}',
    '{"a":"x\\":","b":1}',
    '{"a":-0,"b":-0.0}',
    '{"a": -0}',
    '{"a":\t-0}',
    '{"a":1.50,"b":1e3,"c":1e400,"d":123456789012345678901234567890}',
    '{"a":1e99999999999999999999}',
    '{"payload":{"b":1,"b":2}}',
    '{"payload_b":1,"payload":{"b":2}}',
    '{"payload":{"b":{"c":1}}}',
    '{"payload":null,"b":true,"c":null}',
    '{"payload":[1]}',
    '{"a":{"b":1},"c":[1]}',
    '{"a":"\\ud800"}',
    '{"a":NaN}',
    '{"a":"\u2028","é":"ü"}',
    '{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"a":1}}',
    '{"specversion":"1.0","id":"1","source":"s","type":"t"}',
    "1",
    '"x"',
    "{}",
]


def name_of(row_cells: object) -> str:
    """Return the identifier of a row without one."""
    return RowNames("", None, None).name(row_cells, "tokens", None)  # pyright: ignore[reportArgumentType]


def check(line: str) -> None:
    """The line has the cells, the error and the generated identifier of the same object in a list."""
    (row,) = jsonl_rows(io.BytesIO(f"{line}\n".encode()))
    (expected,) = json_rows(io.BytesIO(f"[{line}]".encode()))
    assert (row.error and row.error.message) == (expected.error and expected.error.message)
    assert {key: str(cell) for key, cell in row.cells.items()} == {
        key: str(cell) for key, cell in expected.cells.items()
    }
    assert name_of(row.cells) == name_of(expected.cells)


@pytest.mark.parametrize("line", [line for line in LINES if "NaN" not in line])
def test_a_line_is_the_same_row_as_in_a_list(line: str) -> None:
    """Duplicate keys are found, numbers keep their digits, and the names of rows don't change."""
    check(line)


def test_a_line_that_is_not_json_is_rejected() -> None:
    """With the message of the exact decoder."""
    (row,) = jsonl_rows(io.BytesIO(b'{"a":NaN}\n'))
    assert row.error is not None
    assert "NaN is not a number in JSON" in row.error.message


TEXTS = st.text('abc":\\ -0\té', max_size=4)
VALUES = st.one_of(TEXTS, st.integers(), st.decimals(allow_nan=False, allow_infinity=False), st.booleans(), st.none())
OBJECTS = st.dictionaries(TEXTS | st.just("payload"), VALUES | st.dictionaries(TEXTS, VALUES, max_size=3), max_size=4)


@settings(max_examples=examples(150), deadline=None)
@given(OBJECTS, st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")]))
def test_random_objects(fields: dict[str, object], separators: tuple[str, str]) -> None:
    """However the text is spaced."""
    check(
        json.dumps(
            fields, separators=separators, default=lambda number: float(number) if isinstance(number, Decimal) else None
        )
    )
