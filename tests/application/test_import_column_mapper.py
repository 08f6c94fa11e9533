"""Rows are mapped by two mappers: the one for columns maps no row differently from the one for single rows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application import Metering
from tallybook.application.usage_import.column_mapper import ColumnMapper
from tallybook.application.usage_import.columns import ColumnMapping
from tallybook.application.usage_import.formats import Row, RowBatch
from tallybook.application.usage_import.json_rows import NestedCell, UnusableCell
from tallybook.application.usage_import.row_mapper import RowFormat, RowMapper
from tallybook.application.usage_import.values import NumberFormat
from tallybook.domain.errors import MeterNotFound
from tallybook.domain.meter_event_input import MeterEventInput, parse_meter_event
from tallybook.domain.rules_schedule import RulesSchedule

from ..sampling import examples

pytestmark = pytest.mark.fast
BERLIN = ZoneInfo("Europe/Berlin")
COLUMNS = ("event_name", "identifier", "timestamp", "payload_customer", "payload_value", "payload_region", "who", "qty")
USUAL = ("tokens", "req-1", "2026-03-01T10:00:00Z", "acme", "12.5", "eu", "initech", "7")
CELLS: Mapping[str, Sequence[object]] = {
    "event_name": ["tokens", "tokens", "logins", "calls", "", "unknown", None],
    "identifier": ["req-1", "req-2", "Müller", "", "x" * 100, "x" * 101, "a\0b", None, 7],
    "timestamp": [
        "2026-03-01T10:00:00Z", "2026-03-01 10:00:00+02:00", "2026-03-01T10:00:00.1234567Z", "2026-02-30T10:00:00Z",
        "2026-03-01", "1772359200", "01.03.2026", "", "2026-03-01T10:00:00Z\n2026-03-01T10:00:00Z", None,
        datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=BERLIN), datetime(2026, 3, 1), date(2026, 3, 1),
        datetime.max.replace(tzinfo=BERLIN), datetime.min.replace(tzinfo=BERLIN), 1772359200, Decimal("1772359200.5"),
    ],
    "payload_customer": ["acme", "initech", "Müller & Söhne", "", "a\0b", "x" * 5_000, "x" * 5_001, "\ud800"],
    "payload_value": [
        "1", "12.5", "-3", "1,5", "1.234", "1'000", "(5)", "many", "", "1\n2", 3, -3, Decimal("0.10"), Decimal("1E+5"),
        Decimal("1E+999"), None, True, 1.5,
    ],
    "payload_region": ["eu", "us", "", None, 7, Decimal("7.0"), False, UnusableCell("a list")],
    "who": ["acme", "initech", "", NestedCell({"id": "req-9"})],
    "qty": ["7", "7.000", "7,0", ""],
}  # fmt: skip
FORMATS: Mapping[str, RowFormat] = {
    "Stripe's columns": RowFormat(),
    "one meter": RowFormat(ColumnMapping(event_name="tokens")),
    "named columns": RowFormat(ColumnMapping("calls", customer="who", payload={"payload_region": "area"})),
    "one customer": RowFormat(ColumnMapping(event_name="calls", customer_name="acme", identifier_prefix="march/")),
    "a customer with a long name": RowFormat(ColumnMapping(customer_name="x" * 5_001)),
    "an empty customer": RowFormat(ColumnMapping(event_name="calls", customer_name="")),
    "a prefix that can't be stored": RowFormat(ColumnMapping(identifier_prefix="a\0")),
    "a comma": RowFormat(numbers=NumberFormat(",")),
    "semicolons": RowFormat(numbers=NumberFormat(is_semicolon_separated=True)),
    "another identifier": RowFormat(ColumnMapping(identifier="who")),
    "a path": RowFormat(ColumnMapping(identifier="who.id")),
    "no column of identifiers": RowFormat(ColumnMapping(identifier="none")),
    "a missing column": RowFormat(ColumnMapping(value="amount")),
}


@pytest.fixture(scope="module")
def meters() -> Mapping[str, RulesSchedule]:
    """Three meters with payloads of different keys."""
    with Metering.open("sqlite://") as metering:
        metering.meters.configure("tokens", customer_key="customer")
        metering.meters.configure("logins", customer_key="customer", formula="unique_count")
        metering.meters.configure("calls", customer_key="account", formula="count")
        return {meter.event_name: meter.schedule for meter in metering.imports.ledger.meters()}


def mappers(row_format: RowFormat, meters: Mapping[str, RulesSchedule]) -> tuple[RowMapper, ColumnMapper]:
    """Return both mappers for a file with all columns."""

    def get_schedule(event_name: str) -> RulesSchedule:
        if event_name not in meters:
            raise MeterNotFound("There is no such meter.", field="event_name", value=event_name)
        return meters[event_name]

    row_mapper = RowMapper(row_format, get_schedule, COLUMNS)
    return row_mapper, ColumnMapper(row_format, row_mapper.keys_of, COLUMNS)


def rows_of(*cells: Sequence[object]) -> RowBatch:
    """Return rows with these cells."""
    return RowBatch([Row(line, dict(zip(COLUMNS, row, strict=True)), 1) for line, row in enumerate(cells, 2)])


def check(batch: RowBatch, row_format: RowFormat, meters: Mapping[str, RulesSchedule]) -> bool:
    """Return whether the mapper for columns maps the rows. Then it does so as the one for rows does."""
    row_mapper, column_mapper = mappers(row_format, meters)
    by_names = map_columns(ColumnMapper(row_format, row_mapper.keys_of, None), batch)
    assert by_names == map_columns(column_mapper, batch)  # as in JSON, whose rows name their own columns
    if column_mapper.are_clear(batch):
        assert [row_mapper.find_unclear(row.cells) for row in batch.rows] == [[] for _ in batch.rows]
    meter_events = map_columns(column_mapper, batch)
    if meter_events is None:
        return False
    expected = [parse_meter_event(row_mapper.map(row.cells)) for row in batch.rows]
    assert list(map(_fields, meter_events)) == list(map(_fields, expected))
    return True


def map_columns(mapper: ColumnMapper, batch: RowBatch) -> Sequence[MeterEventInput] | None:
    return mapper.map(batch, mapper.plan(batch))


def _fields(event: MeterEventInput) -> tuple[object, ...]:
    """Return the fields of a meter event: the keys of its payload are stored in their order."""
    return event.event_name, list(event.payload.items()), event.identifier, event.timestamp


@pytest.mark.parametrize("name", ["Stripe's columns", "one meter", "named columns", "one customer"])
def test_usual_rows_are_mapped_by_columns(name: str, meters: Mapping[str, RulesSchedule]) -> None:
    """Also with empty cells, and with times in other timezones."""
    without_region = (*USUAL[:2], "2026-03-01T10:00:00+02:00", "Müller", "-1", "", "acme", "0.5")
    assert check(rows_of(USUAL, without_region), FORMATS[name], meters)
    assert check(rows_of(USUAL), FORMATS[name], meters)


@pytest.mark.parametrize("name", FORMATS)
def test_each_unusual_cell_is_mapped_by_both_or_by_rows(name: str, meters: Mapping[str, RulesSchedule]) -> None:
    """One unusual cell among usual rows."""
    for index, column in enumerate(COLUMNS):
        for cell in CELLS[column]:
            check(rows_of(USUAL, (*USUAL[:index], cell, *USUAL[index + 1 :]), USUAL), FORMATS[name], meters)


ROWS = st.tuples(*(st.sampled_from([usual, *CELLS[column]]) for column, usual in zip(COLUMNS, USUAL, strict=True)))


@settings(max_examples=examples(100))
@given(st.sampled_from(sorted(FORMATS)), st.lists(ROWS))
def test_random_rows_are_mapped_by_both_or_by_rows(
    meters: Mapping[str, RulesSchedule], name: str, cells: list[tuple[object, ...]]
) -> None:
    """Any combination of cells."""
    check(rows_of(*cells), FORMATS[name], meters)


def test_numbers_and_times_are_mapped_by_columns(meters: Mapping[str, RulesSchedule]) -> None:
    """As they are in JSON, spreadsheets and Parquet."""
    at = datetime(2026, 3, 1, tzinfo=BERLIN)
    rows = [("tokens", f"req-{value}", at, "acme", value, None, "", 7) for value in (1, -5, Decimal("0.10"))]
    assert check(rows_of(*rows), FORMATS["Stripe's columns"], meters)


def test_a_file_without_payload_columns(meters: Mapping[str, RulesSchedule]) -> None:
    """All usage is of one customer, and the meter counts it: each row has the same payload."""
    columns, row_format = ("timestamp", "identifier"), RowFormat(ColumnMapping("calls", customer_name="acme"))
    row_mapper = RowMapper(row_format, meters.__getitem__, columns)
    cells = [dict(zip(columns, (USUAL[2], f"req-{number}"), strict=True)) for number in range(3)]
    batch = RowBatch([Row(line, row, 1) for line, row in enumerate(cells, 2)])
    mapped = map_columns(ColumnMapper(row_format, row_mapper.keys_of, columns), batch)
    assert mapped is not None
    assert list(map(_fields, mapped)) == [_fields(parse_meter_event(row_mapper.map(row))) for row in cells]
