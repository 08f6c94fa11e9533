"""Which column means what: a row becomes a report."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from tallybook.application import Metering
from tallybook.application.usage_columns import Columns
from tallybook.domain.errors import NoMeter

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def tokens(metering: Metering) -> Metering:
    metering.configure_meter("tokens", customer_key="customer", value_key="tokens", dimension_keys=("model",))
    return metering


def test_stripes_columns_need_no_names(tokens: Metering) -> None:
    """Each payload_KEY goes under KEY; empty cells say nothing, and further columns are left out."""
    cells = {"identifier": "a", "timestamp": "2026-01-01", "event_name": "tokens", "payload_customer": "acme",
             "payload_tokens": "1", "payload_note": "", "comment": "x"}  # fmt: skip
    assert Columns().report(cells, tokens.meter) == {
        "event_name": "tokens",
        "identifier": "a",
        "timestamp": AT,
        "payload": {"customer": "acme", "tokens": "1"},
    }


def test_named_columns_go_under_the_meters_own_keys(tokens: Metering) -> None:
    """Value and customer by the meter's rules, further columns under the keys they are given."""
    columns = Columns("tokens", "at", "id", "n", "who", payload={"kind": "model", "note": "note"})
    cells = {"id": "a", "at": "2026-01-01", "event_name": "other", "n": "5", "who": "acme", "kind": "small", "note": ""}
    assert columns.report(cells, tokens.meter) == {
        "event_name": "tokens",
        "identifier": "a",
        "timestamp": AT,
        "payload": {"customer": "acme", "tokens": "5", "model": "small"},
    }


def test_one_customer_may_be_that_of_all_rows(tokens: Metering) -> None:
    """Whatever the rows say."""
    report = Columns("tokens", customer_name="acme").report(
        {"timestamp": "2026-01-01", "payload_customer": "else"}, tokens.meter
    )
    assert report["payload"] == {"customer": "acme"}


def test_named_columns_of_an_unknown_meter_are_refused(tokens: Metering) -> None:
    """Its keys are not known."""
    with pytest.raises(NoMeter):
        Columns(value="n").report({"timestamp": "0", "event_name": "nothing", "n": "1"}, tokens.meter)


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
def test_numbers_become_the_plain_text_that_they_are(tokens: Metering, number: object, text: object) -> None:
    """Digit for digit; what would be absurdly long stays as it is and is refused as a value."""
    report = Columns().report({"timestamp": 0, "event_name": "tokens", "payload_tokens": number}, tokens.meter)
    assert report["payload"] == {"tokens": text}
    assert report["timestamp"] == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("columns", "required"),
    [
        (Columns(), {"timestamp", "event_name"}),
        (Columns(value="n", identifier="id"), {"timestamp", "event_name", "n", "id"}),
        (Columns("tokens"), {"timestamp", "payload_customer", "payload_tokens", "payload_model"}),
        (Columns("tokens", "at", None, "n", "who", payload={"m": "model"}), {"at", "n", "who", "m"}),
        (Columns("tokens", customer_name="acme", payload={"n": "tokens", "m": "model"}), {"timestamp", "n", "m"}),
    ],
)
def test_the_columns_that_a_file_must_have(tokens: Metering, columns: Columns, required: set[str]) -> None:
    """Those that are named, and those that the meter's rules need of every row."""
    meter = None if columns.event_name is None else tokens.meter(columns.event_name)
    assert set(columns.required(meter)) == required


def test_a_count_needs_no_value_column(metering: Metering) -> None:
    """Its payload may go without."""
    assert set(Columns("calls").required(metering.configure_meter("calls", formula="count"))) == {
        "timestamp",
        "payload_stripe_customer_id",
    }
