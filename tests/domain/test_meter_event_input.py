"""Meter event input: which forms are accepted, and which are rejected with which field."""

import tracemalloc
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel
from tallybook.application import MeterEventInput, Metering
from tallybook.domain.errors import InvalidIdentifier, InvalidPayload, TallybookError
from tallybook.domain.meter_event_input import parse_meter_event

from ..notation import Clock, moment

VALID_PAYLOAD = {"customer": "acme", "value": "1"}


def parse(payload: object, identifier: object = None) -> MeterEventInput:
    """Parse a meter event with this payload."""
    return parse_meter_event({"event_name": "calls", "payload": payload, "identifier": identifier})


INVALID_PAYLOADS: list[tuple[str, object]] = [
    ("payload.value", {"customer": "acme", "value": 1.5}),
    ("payload.value", {"customer": "acme", "value": 1.0}),
    ("payload.value", {"customer": "acme", "value": Decimal("NaN")}),
    ("payload.value", {"customer": "acme", "value": Decimal("Infinity")}),
    ("payload.value", {"customer": "acme", "value": Decimal("1E+300000000")}),
    ("payload.value", {"customer": "acme", "value": Decimal("-1E-999999999999999999")}),
    ("payload.value", {"customer": "acme", "value": Decimal("0E-999999999999999999")}),
    ("payload.value", {"customer": "acme", "value": Decimal("1E+5000")}),
    ("payload.value", {"customer": "acme", "value": None}),
    ("payload.value", {"customer": "acme", "value": True}),
    ("payload.value", {"customer": "acme", "value": b"1"}),
    ("payload.value", {"customer": "acme", "value": {"nested": "1"}}),
    ("payload.value", {"customer": "acme", "value": ["1"]}),
    ("payload.customer", {"customer": 7.0, "value": "1"}),
    ("payload.7", {"customer": "acme", 7: "1"}),
    ("payload.None", {None: "1"}),
    ("payload.", {"": "1"}),
    ("payload.long", {"long": "v" * 5_001}),
    (f"payload.{'k' * 101}", {"k" * 101: "v"}),
    ("payload", {f"k{number}": "v" for number in range(51)}),
    ("payload", None),
    ("payload", []),
    ("payload", [("customer", "acme")]),
    ("payload", "customer=acme"),
    ("payload", b"{}"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "payload"), INVALID_PAYLOADS)
def test_an_invalid_payload_is_rejected(field: str, payload: object) -> None:
    """Only text, int and Decimal are accepted as values, and only text as keys. The error names the key."""
    with pytest.raises(InvalidPayload) as exc_info:
        parse(payload)
    assert exc_info.value.field == field


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (-7, "-7"), (0, "0"), (Decimal("0.50"), "0.50"), (Decimal("1E+3"), "1000"), (10**30, "1" + "0" * 30)],
)
def test_int_and_decimal_payload_values_are_stored_as_plain_text(value: object, text: str) -> None:
    """Their digits are exact, unlike those of a float."""
    assert parse({"customer": "acme", "value": value}).payload == {"customer": "acme", "value": text}


def test_a_decimal_may_be_as_long_as_text() -> None:
    """5,000 digits."""
    assert parse({"value": Decimal("1E+4999")}).payload == {"value": "1" + "0" * 4_999}


@pytest.mark.parametrize("exponent", ["+100000000", "-999999999999999999"])
def test_a_decimal_with_a_large_exponent_is_rejected_alone(metering: Metering, exponent: str) -> None:
    """It isn't written out, which would take as much memory as it has digits."""
    metering.meters.configure("calls", customer_key="customer")
    good, bad = VALID_PAYLOAD, {"customer": "acme", "value": Decimal(f"1E{exponent}")}
    tracemalloc.start()
    try:
        receipts = metering.record_many([{"event_name": "calls", "payload": payload} for payload in (good, bad, good)])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [receipt.outcome for receipt in receipts] == ["accepted", "rejected", "accepted"]
    assert peak < 10_000_000


@pytest.mark.parametrize("payload", [{"\ud800": "1"}, {"k": "\udfff"}, {"k": "a\ud83d"}])
def test_a_payload_is_valid_unicode(payload: dict[str, str]) -> None:
    """Lone surrogates are rejected; the message and the field can be encoded."""
    with pytest.raises(InvalidPayload) as exc_info:
        parse(payload)
    exc_info.value.message.encode()
    assert exc_info.value.field is not None
    exc_info.value.field.encode()


@pytest.mark.parametrize(
    "payload",
    [
        {}, {"k": ""}, {"k": "v" * 5_000}, {"k" * 100: "v"}, {f"k{number}": "v" for number in range(50)},
        {"k": "\0"}, {"k": "\U0001f9fe"}, {"schlüssel": "größe"}, {"k": "\n"},
    ],
)  # fmt: skip
def test_a_payload_within_its_limits_is_read_as_it_is(payload: dict[str, str]) -> None:
    """50 keys of 100 characters, values of 5,000, any valid text."""
    assert parse(payload).payload == payload


@pytest.mark.parametrize(
    "identifier", ["i", "i" * 100, "é" * 100, "\U0001f9fe" * 100, " ", "a/b", "event/x", "'; DROP"]
)
def test_an_identifier_is_1_to_100_characters(metering: Metering, identifier: str) -> None:
    """Characters, not bytes; no character has a special meaning."""
    metering.meters.configure("calls", customer_key="customer")
    assert metering.record("calls", VALID_PAYLOAD, identifier=identifier).identifier == identifier
    assert metering.record("calls", VALID_PAYLOAD, identifier=identifier).outcome == "duplicate"
    assert [event.identifier for event in metering.events("calls")] == [identifier]
    assert metering.cancel("calls", identifier).identifier == identifier


@pytest.mark.parametrize("identifier", ["", "i" * 101, "a\0", "\ud800", 7, 1.5, True, b"a", ["a"]])
def test_other_identifiers_are_rejected(identifier: object) -> None:
    """Empty, longer than 100, with a NUL, not valid Unicode, or not text."""
    with pytest.raises(InvalidIdentifier) as exc_info:
        parse(VALID_PAYLOAD, identifier)
    assert (exc_info.value.code, exc_info.value.field) == ("invalid_identifier", "identifier")


@dataclass
class EventObject:
    """A meter event as a dataclass of the caller."""

    event_name: str
    payload: Mapping[str, str]
    identifier: str | None = None
    timestamp: datetime | None = None


class EventModel(BaseModel):
    """A meter event as a pydantic model of the caller."""

    event_name: str
    payload: dict[str, str]
    identifier: str | None = None
    timestamp: datetime | None = None


@pytest.mark.parametrize(
    "raw",
    [
        MeterEventInput("calls", VALID_PAYLOAD, "a", moment("10:00")),
        {"event_name": "calls", "payload": VALID_PAYLOAD, "identifier": "a", "timestamp": moment("10:00")},
        defaultdict(str, event_name="calls", payload=VALID_PAYLOAD, identifier="a", timestamp=moment("10:00")),
        MappingProxyType(
            {"event_name": "calls", "payload": VALID_PAYLOAD, "identifier": "a", "timestamp": moment("10:00")}
        ),
        EventObject("calls", VALID_PAYLOAD, "a", moment("10:00")),
        EventModel(event_name="calls", payload=VALID_PAYLOAD, identifier="a", timestamp=moment("10:00")),
    ],
)
def test_a_meter_event_is_a_mapping_or_an_object_with_its_fields(raw: object) -> None:
    """Any object or mapping with the fields is accepted."""
    assert parse_meter_event(raw) == MeterEventInput("calls", VALID_PAYLOAD, "a", moment("10:00"))


@pytest.mark.parametrize(
    ("field", "raw"),
    [
        ("event_name", {}), ("event_name", {"payload": VALID_PAYLOAD}), ("payload", {"event_name": "calls"}),
        ("meter_event", {"event_name": "calls", "payload": VALID_PAYLOAD, "idempotency_key": "a"}),
        ("meter_event", None), ("meter_event", 7), ("meter_event", "calls"), ("meter_event", [VALID_PAYLOAD]),
        ("meter_event", "\ud800"),
        ("event_name", {"event_name": "calls\ud800", "payload": VALID_PAYLOAD}),
    ],
)  # fmt: skip
def test_an_invalid_meter_event_is_rejected(metering: Metering, field: str, raw: object) -> None:
    """Missing and unknown fields, and values that are no meter events."""
    metering.meters.configure("calls", customer_key="customer")
    (receipt,) = metering.record_many([raw])
    assert receipt.outcome == "rejected"
    assert receipt.error is not None
    assert receipt.error.field == field


def test_a_payload_is_copied_when_recorded(metering: Metering) -> None:
    """A later change of the mapping by the caller has no effect."""
    metering.meters.configure("calls", customer_key="customer")
    payload = dict(VALID_PAYLOAD, note=" kept  as it is ")
    metering.record("calls", payload, identifier="a")
    payload["value"] = "1000"
    (event,) = metering.events("calls")
    assert event.payload == {**VALID_PAYLOAD, "note": " kept  as it is "}


class Plan(StrEnum):
    """An enumeration of text."""

    PRO = "pro"


class SafeText(str):
    """A subclass of str, as template engines use."""

    __slots__ = ()


@pytest.mark.parametrize("pro", [Plan.PRO, SafeText("pro")], ids=["enumeration", "subclass"])
def test_a_str_subclass_is_stored_as_text(metering: Metering, pro: str) -> None:
    """An instance of a str subclass is stored as its text."""
    metering.meters.configure("pro", customer_key="customer", dimension_keys=["plan"])
    metering.record(pro, {"customer": pro, "value": "1", "plan": pro}, identifier=pro)
    (event,) = metering.events("pro")
    assert (event.identifier, event.customer, event.dimensions) == ("pro", "pro", {"plan": "pro"})


def test_a_rejected_meter_event_does_not_conflict_with_a_later_one(metering: Metering) -> None:
    """The receipts of a batch equal those of single calls: the rejected event comes before the accepted one."""
    metering.meters.configure("calls", customer_key="customer")
    meter_event = {"event_name": "calls", "identifier": "a"}
    bad, good = (
        meter_event | {"payload": {"customer": "acme", "value": "1e3"}},
        meter_event | {"payload": VALID_PAYLOAD},
    )
    assert [str(receipt.outcome) for receipt in metering.record_many([bad, good, bad])] == [
        "rejected",
        "accepted",
        "conflict",
    ]


def test_an_invalid_meter_event_does_not_fail_the_batch(metering: Metering, clock: Clock) -> None:
    """Each meter event of a batch has its own receipt, in order; valid ones are recorded."""
    clock.now = moment("12:00")
    metering.meters.configure("calls", customer_key="customer")
    good = {"event_name": "calls", "payload": VALID_PAYLOAD}
    meter_events: list[object] = [
        good | {"identifier": "a"},
        None,
        good | {"identifier": "a"},
        good | {"identifier": "d", "payload": {"customer": "acme", "value": "1e3"}},
        good | {"identifier": "a", "payload": {"customer": "beta", "value": "1"}},
        good | {"identifier": "i" * 101},
        good | {"identifier": "b"},
        good | {"event_name": "nothing"},
        good | {"timestamp": moment("12:06")},
        good | {"payload": {"customer": "acme", "value": 1.0}},
        good,
        good | {"identifier": "c", "payload": {"customer": "\ud800", "value": "1"}},
        good | {"identifier": "c"},
    ]
    receipts = metering.record_many(meter_events)
    assert [str(receipt.outcome) for receipt in receipts] == [
        "accepted", "rejected", "duplicate", "rejected", "conflict", "rejected", "accepted", "rejected", "rejected",
        "rejected", "accepted", "rejected", "accepted",
    ]  # fmt: skip
    assert [receipt.identifier for receipt in receipts[:7]] == ["a", None, "a", "d", "a", "i" * 101, "b"]
    assert [receipt.position for receipt in receipts if receipt.outcome == "accepted"] == [2, 3, 4, 5]
    assert receipts[2].position == receipts[4].position == 2
    failed_outcomes = {"rejected", "conflict"}
    assert all((receipt.error is not None) == (receipt.outcome in failed_outcomes) for receipt in receipts)
    assert all((receipt.position is None) == (receipt.outcome == "rejected") for receipt in receipts)
    assert len(metering.events("calls")) == 4


def test_a_repeated_batch_is_all_duplicates(metering: Metering) -> None:
    """A client whose response was lost retries the batch, with more events at the end."""
    metering.meters.configure("calls", customer_key="customer")
    meter_events = [
        {"event_name": "calls", "payload": VALID_PAYLOAD, "identifier": f"e{number}"} for number in range(1_200)
    ]
    first = metering.record_many(meter_events[:1_000])
    second_receipts = metering.record_many(meter_events)
    assert [receipt.position for receipt in second_receipts[:1_000]] == [receipt.position for receipt in first]
    assert [str(receipt.outcome) for receipt in second_receipts] == ["duplicate"] * 1_000 + ["accepted"] * 200


def test_an_empty_batch_writes_nothing(metering: Metering) -> None:
    """No meter events, no receipts."""
    assert metering.record_many([]) == []
    assert metering.catch_up() == 0


def test_an_error_abbreviates_a_long_value(metering: Metering) -> None:
    """A message stays short for any input."""
    with pytest.raises(TallybookError) as exc_info:
        parse_meter_event({"event_name": "calls", "payload": {"k": "v" * 100_000}})
    assert len(exc_info.value.message) < 500


@pytest.mark.parametrize("field", ["event_name", "identifier", "payload", "timestamp"])
def test_an_unencodable_meter_event_does_not_fail_the_batch(metering: Metering, field: str) -> None:
    """A lone surrogate in any field rejects that event only; the other event is recorded."""
    metering.meters.configure("calls", customer_key="customer")
    good = {"event_name": "calls", "payload": VALID_PAYLOAD, "identifier": "good"}
    receipts = metering.record_many([{**good, "identifier": "bad", field: "\ud800"}, good])
    assert [str(receipt.outcome) for receipt in receipts] == ["rejected", "accepted"]
    assert receipts[0].error is not None
    assert receipts[0].error.field == field


@pytest.mark.parametrize("meter_events", [None, 7])
def test_an_invalid_batch_is_rejected(metering: Metering, meter_events: Any) -> None:
    """The error has the argument as its field."""
    with pytest.raises(TallybookError) as exc_info:
        metering.record_many(meter_events)
    assert (exc_info.value.code, exc_info.value.field) == ("parameter_invalid", "meter_events")
