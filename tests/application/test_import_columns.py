"""Column mapping: how a row becomes a meter event."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from traceback import walk_tb

import pytest
from tallybook.application import Metering
from tallybook.application.usage_import.columns import ColumnMapping
from tallybook.application.usage_import.meter_lookup import MeterLookup
from tallybook.application.usage_import.row_mapper import RowFormat, RowMapper
from tallybook.domain.errors import InvalidParameter, MeterNotFound
from tallybook.domain.rules_schedule import RulesSchedule

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def tokens_ledger(metering: Metering) -> Metering:
    metering.meters.configure("tokens", customer_key="customer", value_key="tokens", dimension_keys=("model",))
    return metering


def parse_row(
    columns: ColumnMapping, cells: Mapping[str, object], get_schedule: Callable[[str], RulesSchedule]
) -> dict[str, object]:  # fmt: skip
    return RowMapper(RowFormat(columns), get_schedule).map(cells)


def test_stripes_columns_need_no_names(tokens_ledger: Metering) -> None:
    """Each column payload_KEY becomes KEY; empty cells and other columns are left out."""
    cells = {"identifier": "a", "timestamp": "2026-01-01", "event_name": "tokens", "payload_customer": "acme",
             "payload_tokens": "1", "payload_note": "", "comment": "x"}  # fmt: skip
    assert parse_row(ColumnMapping(), cells, MeterLookup(tokens_ledger).schedule) == {
        "event_name": "tokens",
        "identifier": "a",
        "timestamp": AT,
        "payload": {"customer": "acme", "tokens": "1"},
    }


def test_named_columns_go_under_the_meters_own_keys(tokens_ledger: Metering) -> None:
    """Value and customer are stored under the meter's keys, other columns under the keys they are mapped to."""
    columns = ColumnMapping("tokens", "at", "id", "n", "who", payload={"kind": "model", "note": "note"})
    cells = {"id": "a", "at": "2026-01-01", "event_name": "other", "n": "5", "who": "acme", "kind": "small", "note": ""}
    assert parse_row(columns, cells, MeterLookup(tokens_ledger).schedule) == {
        "event_name": "tokens",
        "identifier": "a",
        "timestamp": AT,
        "payload": {"customer": "acme", "tokens": "5", "model": "small"},
    }


def test_one_customer_may_apply_to_all_rows(tokens_ledger: Metering) -> None:
    """It overrides the customers in the rows."""
    event_input = parse_row(
        ColumnMapping("tokens", customer_name="acme"),
        {"timestamp": "2026-01-01", "payload_customer": "else"},
        MeterLookup(tokens_ledger).schedule,
    )
    assert event_input["payload"] == {"customer": "acme"}


def test_named_columns_of_an_unknown_meter_are_rejected(tokens_ledger: Metering) -> None:
    """The keys of its rules are unknown."""
    with pytest.raises(MeterNotFound):
        parse_row(
            ColumnMapping(value="n"),
            {"timestamp": "2026-01-01", "event_name": "nothing", "n": "1"},
            MeterLookup(tokens_ledger).schedule,
        )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Decimal("0.1"), "0.1"),
        (Decimal("1.50"), "1.50"),
        (Decimal("0.00000001"), "0.00000001"),
        (Decimal("1e3"), "1000"),
        (Decimal("12345678901234567890.123456789"), "12345678901234567890.123456789"),
        (12345678901234567890123, "12345678901234567890123"),
        (Decimal("1e999999999"), "1E+999999999"),
        (True, True),
        ("1e3", "1e3"),
    ],
)
def test_numbers_become_the_plain_text_that_they_are(tokens_ledger: Metering, number: object, text: object) -> None:
    """All digits are preserved; a number that would be too long stays in exponent form and is rejected as a value."""
    event_input = parse_row(
        ColumnMapping(),
        {"timestamp": 1767225600, "event_name": "tokens", "payload_tokens": number},
        MeterLookup(tokens_ledger).schedule,
    )
    assert event_input["payload"] == {"tokens": text}
    assert event_input["timestamp"] == AT


@pytest.mark.parametrize(
    ("columns", "required"),
    [
        (ColumnMapping(), {"timestamp", "event_name"}),
        (ColumnMapping(value="n", identifier="id"), {"timestamp", "event_name", "n", "id"}),
        (ColumnMapping("tokens"), {"timestamp", "payload_customer", "payload_tokens", "payload_model"}),
        (ColumnMapping("tokens", "at", None, "n", "who", payload={"m": "model"}), {"at", "n", "who", "m"}),
        (ColumnMapping("tokens", customer_name="acme", payload={"n": "tokens", "m": "model"}), {"timestamp", "n", "m"}),
    ],
)
def test_the_columns_that_a_file_must_have(tokens_ledger: Metering, columns: ColumnMapping, required: set[str]) -> None:
    """The mapped columns, and those that the meter's rules require in every row."""
    meter = None if columns.event_name is None else tokens_ledger.meters.get(columns.event_name)
    assert set(columns.required_columns(meter)) == required


def test_a_count_needs_no_value_column(metering: Metering) -> None:
    """Its payload may have no value."""
    assert set(ColumnMapping("calls").required_columns(metering.meters.configure("calls", formula="count"))) == {
        "timestamp",
        "payload_stripe_customer_id",
    }


def test_rejected_rows_of_one_meter_keep_no_memory(tokens_ledger: Metering) -> None:
    """Their error is the same object, whose traceback must not grow by the frames of each row."""
    mapper = RowMapper(RowFormat(ColumnMapping(event_name="tokns")), MeterLookup(tokens_ledger).schedule)
    events = [{"event_name": "tokns", "payload": {"customer": "acme", "tokens": "1"}}] * 50
    for _ in events:
        with pytest.raises(MeterNotFound):
            mapper.map({"timestamp": "2026-01-01"})
    with pytest.raises(MeterNotFound) as exc_info:
        mapper.map({"timestamp": "2026-01-01"})
    assert len(list(walk_tb(exc_info.value.__traceback__))) < 10
    last = tokens_ledger.record_many(events)[-1]
    assert last.error is not None
    assert len(list(walk_tb(last.error.__traceback__))) < 10


def test_only_the_first_unknown_meters_are_compared_with_all(tokens_ledger: Metering) -> None:
    """A file may name another one in each row."""
    lookup = MeterLookup(tokens_ledger)
    messages: list[str] = []
    for number in range(30):
        with pytest.raises(MeterNotFound) as exc_info:
            lookup.schedule(f"token{number}")
        messages.append(exc_info.value.message)
    assert [message.endswith("Similar meters: tokens.") for message in messages] == [True] * 20 + [False] * 10
    assert lookup.schedule("tokens").newest.rules.value_key == "tokens"


def test_cells_are_stored_under_the_keys_of_the_time_of_a_row(tokens_ledger: Metering) -> None:
    """A customer key of a date doesn't apply to rows before it. Such rows aren't mapped by columns."""
    changed = {"customer_key": "tenant", "value_key": "size"}
    tokens_ledger.rules.change("tokens", changed, reason="tenants pay", effective_from=datetime(2026, 1, 2, tzinfo=UTC))
    columns = ColumnMapping("tokens", customer_name="acme", value="n")
    mapper = RowMapper(RowFormat(columns), MeterLookup(tokens_ledger).schedule)
    payloads = [mapper.map({"timestamp": f"2026-01-0{day}", "n": "1.50"})["payload"] for day in (1, 2)]
    assert payloads == [{"customer": "acme", "tokens": "1.50"}, {"tenant": "acme", "size": "1.50"}]
    with pytest.raises(InvalidParameter, match="change on a date"):
        mapper.keys_of("tokens")
