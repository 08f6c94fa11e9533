"""Recording through the public API: payload values that are numbers, strict batches, and receipts."""

import json
from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter

from tallybook import (
    InvalidParameter,
    InvalidRequest,
    MeterEventInput,
    MeterEventsRejected,
    Metering,
    Outcome,
    Receipt,
    TallybookError,
)


@pytest.fixture
def tokens(metering: Metering) -> Metering:
    """A ledger with a meter of tokens."""
    metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
    return metering


def meter_event(identifier: str, value: object) -> dict[str, object]:
    return {"event_name": "tokens", "payload": {"customer": "acme", "tokens": value}, "identifier": identifier}


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (25, "25"),
        (-3, "-3"),
        (0, "0"),
        (10**14, "100000000000000"),
        (Decimal("0.10"), "0.10"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-2.5e-7"), "-0.00000025"),
        ("25.0", "25.0"),
    ],
)
def test_numbers_are_stored_as_plain_decimal_text(tokens: Metering, value: Any, stored: str) -> None:
    """An int or Decimal has one text; text stays as it was written."""
    tokens.record("tokens", {"customer": "acme", "tokens": value}, identifier="a")
    assert tokens.event("a").payload == {"customer": "acme", "tokens": stored}
    assert tokens.event("a").value == Decimal(stored)


def test_a_number_and_its_text_are_the_same_content(tokens: Metering) -> None:
    """A retry may use either."""
    outcomes = [tokens.record_many([meter_event("a", value)])[0].outcome for value in (25, "25", Decimal(25), 26)]
    assert outcomes == [Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.DUPLICATE, Outcome.CONFLICT]


@pytest.mark.parametrize(
    "value", [2.5, True, False, None, Decimal("NaN"), Decimal("Infinity"), Decimal("sNaN"), b"25", [25], {"a": 1}]
)
def test_other_values_are_rejected(tokens: Metering, value: object) -> None:
    """A float's digits are not those that the caller wrote; a bool is no number here."""
    (receipt,) = tokens.record_many([meter_event("a", value)])
    assert isinstance(receipt.error, TallybookError)
    assert (receipt.error.code, receipt.error.field) == ("payload_invalid", "payload.tokens")


@pytest.mark.parametrize("kind", ["mapping", "input", "object"])
def test_numbers_are_accepted_in_each_form_of_a_meter_event(tokens: Metering, kind: str) -> None:
    """A mapping, a MeterEventInput, and any object with the attributes."""
    fields = meter_event("a", 7)
    forms: dict[str, object] = {
        "mapping": fields,
        "input": MeterEventInput(**fields),  # pyright: ignore[reportArgumentType]
        "object": type("Event", (), {**fields, "timestamp": None})(),
    }
    assert tokens.record_many([forms[kind]])[0].outcome == Outcome.ACCEPTED
    assert tokens.event("a").value == 7


def test_receipts_count_outcomes(tokens: Metering) -> None:
    """They are a list in the order of the meter events, with the number of each outcome."""
    receipts = tokens.record_many(
        [meter_event("a", 1), meter_event("a", 1), meter_event("a", 2), meter_event("b", "x"), meter_event("c", 3)]
    )
    assert [receipt.outcome for receipt in receipts] == ["accepted", "duplicate", "conflict", "rejected", "accepted"]
    assert (receipts.accepted, receipts.duplicates, receipts.conflicts, receipts.rejected) == (2, 1, 1, 1)


def test_a_strict_batch_raises_after_recording_the_valid_events(tokens: Metering) -> None:
    """The error has all receipts and names the first event that was not recorded."""
    with pytest.raises(MeterEventsRejected) as raised:
        tokens.record_many([meter_event("a", 1), meter_event("b", "x"), meter_event("a", 2)], strict=True)
    error = raised.value
    assert isinstance(error, InvalidRequest)
    assert [receipt.outcome for receipt in error.receipts] == ["accepted", "rejected", "conflict"]
    assert error.message.startswith("2 of 3 meter events were not recorded; the first is number 1 (identifier 'b'): ")
    assert tokens.event("a").value == 1


def test_a_strict_batch_of_new_events_and_duplicates_returns_receipts(tokens: Metering) -> None:
    """A duplicate is recorded already, so nothing is wrong."""
    receipts = tokens.record_many([meter_event("a", 1), meter_event("a", 1)], strict=True)
    assert (receipts.accepted, receipts.duplicates) == (1, 1)


def test_a_receipt_is_an_object_in_json(tokens: Metering) -> None:
    """With field names, as web frameworks that use pydantic return it."""
    receipt = tokens.record("tokens", {"customer": "acme", "tokens": 1}, identifier="a")
    assert json.loads(TypeAdapter(Any).dump_json(receipt)) == {
        "identifier": "a",
        "position": 2,
        "outcome": "accepted",
        "error": None,
    }
    with pytest.raises(AttributeError):
        receipt.position = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_receipts_and_totals_are_json_objects_in_fastapi(tokens: Metering) -> None:
    """Returned from an endpoint with and without a declared response type."""
    from fastapi import FastAPI  # noqa: PLC0415 - slow to import
    from fastapi.testclient import TestClient  # noqa: PLC0415

    app = FastAPI()

    @app.post("/usage")
    def usage() -> Receipt:  # pyright: ignore[reportUnusedFunction]
        return tokens.record_many([meter_event("a", "x")])[0]

    response = TestClient(app).post("/usage").json()
    assert (response["identifier"], response["outcome"]) == ("a", "rejected")
    assert (response["error"]["code"], response["error"]["field"]) == ("payload_invalid_value", "tokens")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_each_event_has_an_author_if_authors_are_given(tokens: Metering, count: int) -> None:
    """Nothing is recorded for fewer or more: events without one would be dropped."""
    with pytest.raises(InvalidParameter, match=f"each of the 2 meter events, and has {count}") as raised:
        tokens.record_many([meter_event("a", 1), meter_event("b", 2)], authors=[None] * count)
    assert raised.value.field == "authors"
    assert tokens.events("tokens") == []
