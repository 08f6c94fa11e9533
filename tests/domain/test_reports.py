"""Reports: what can be read, and what is refused naming the field."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel
from tallybook.application import Metering, Report
from tallybook.domain.errors import InvalidIdentifier, InvalidPayload, TallybookError
from tallybook.domain.report import read_report

from ..notation import Clock, moment

GOOD = {"customer": "acme", "value": "1"}


def read(payload: object, identifier: object = None) -> Report:
    """Read a report of this payload."""
    return read_report({"event_name": "calls", "payload": payload, "identifier": identifier})


BAD_PAYLOADS: list[tuple[str, object]] = [
    ("payload.value", {"customer": "acme", "value": 1}),
    ("payload.value", {"customer": "acme", "value": 1.5}),
    ("payload.value", {"customer": "acme", "value": None}),
    ("payload.value", {"customer": "acme", "value": True}),
    ("payload.value", {"customer": "acme", "value": b"1"}),
    ("payload.value", {"customer": "acme", "value": {"nested": "1"}}),
    ("payload.value", {"customer": "acme", "value": ["1"]}),
    ("payload.customer", {"customer": 7, "value": "1"}),
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


@pytest.mark.parametrize(("field", "payload"), BAD_PAYLOADS)
def test_a_payload_is_text_to_text(field: str, payload: object) -> None:
    """Anything else is refused, naming the key; nothing is turned into text."""
    with pytest.raises(InvalidPayload) as refused:
        read(payload)
    assert refused.value.field == field


@pytest.mark.parametrize("payload", [{"\ud800": "1"}, {"k": "\udfff"}, {"k": "a\ud83d"}])
def test_a_payload_is_valid_unicode(payload: dict[str, str]) -> None:
    """Halves of surrogate pairs can't be kept, and are refused, shown in a way that can be printed."""
    with pytest.raises(InvalidPayload) as refused:
        read(payload)
    refused.value.message.encode()
    assert refused.value.field is not None
    refused.value.field.encode()


@pytest.mark.parametrize(
    "payload",
    [
        {}, {"k": ""}, {"k": "v" * 5_000}, {"k" * 100: "v"}, {f"k{number}": "v" for number in range(50)},
        {"k": "\0"}, {"k": "\U0001f9fe"}, {"schlüssel": "größe"}, {"k": "\n"},
    ],
)  # fmt: skip
def test_a_payload_within_its_limits_is_read_as_it_is(payload: dict[str, str]) -> None:
    """50 keys of 100 characters, values of 5,000, any valid text."""
    assert read(payload).payload == payload


@pytest.mark.parametrize(
    "identifier", ["i", "i" * 100, "é" * 100, "\U0001f9fe" * 100, " ", "a/b", "event/x", "'; DROP"]
)
def test_an_identifier_is_1_to_100_characters(metering: Metering, identifier: str) -> None:
    """Characters, not bytes; nothing in them has a meaning."""
    metering.configure_meter("calls", customer_key="customer")
    assert metering.record("calls", GOOD, identifier=identifier).identifier == identifier
    assert metering.record("calls", GOOD, identifier=identifier).outcome == "duplicate"
    assert [one.identifier for one in metering.events("calls")] == [identifier]
    assert metering.cancel("calls", identifier).identifier == identifier


@pytest.mark.parametrize("identifier", ["", "i" * 101, "a\0", "\ud800", 7, 1.5, True, b"a", ["a"]])
def test_other_identifiers_are_refused(identifier: object) -> None:
    """Empty, longer than 100, with a NUL, not valid Unicode, or not text."""
    with pytest.raises(InvalidIdentifier) as refused:
        read(GOOD, identifier)
    assert (refused.value.code, refused.value.field) == ("invalid_identifier", "identifier")


@dataclass
class ReportObject:
    """A report as somebody's own object."""

    event_name: str
    payload: Mapping[str, str]
    identifier: str | None = None
    timestamp: datetime | None = None


class ReportModel(BaseModel):
    """A report as somebody's own model."""

    event_name: str
    payload: dict[str, str]
    identifier: str | None = None
    timestamp: datetime | None = None


@pytest.mark.parametrize(
    "given",
    [
        Report("calls", GOOD, "a", moment("10:00")),
        {"event_name": "calls", "payload": GOOD, "identifier": "a", "timestamp": moment("10:00")},
        defaultdict(str, event_name="calls", payload=GOOD, identifier="a", timestamp=moment("10:00")),
        MappingProxyType({"event_name": "calls", "payload": GOOD, "identifier": "a", "timestamp": moment("10:00")}),
        ReportObject("calls", GOOD, "a", moment("10:00")),
        ReportModel(event_name="calls", payload=GOOD, identifier="a", timestamp=moment("10:00")),
    ],
)
def test_a_report_is_a_mapping_or_an_object_of_its_fields(given: object) -> None:
    """Whoever has a report in a form of their own can hand it in."""
    assert read_report(given) == Report("calls", GOOD, "a", moment("10:00"))


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("event_name", {}), ("event_name", {"payload": GOOD}), ("payload", {"event_name": "calls"}),
        ("report", {"event_name": "calls", "payload": GOOD, "idempotency_key": "a"}),
        ("report", None), ("report", 7), ("report", "calls"), ("report", [GOOD]), ("report", "\ud800"),
        ("event_name", {"event_name": "calls\ud800", "payload": GOOD}),
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused(metering: Metering, field: str, given: object) -> None:
    """Missing and unknown fields, and things that are no report at all."""
    metering.configure_meter("calls", customer_key="customer")
    (receipt,) = metering.record_many([given])
    assert receipt.outcome == "rejected"
    assert receipt.error is not None
    assert receipt.error.field == field


def test_a_payload_is_kept_as_it_was_when_reported(metering: Metering) -> None:
    """What the caller does to their mapping afterwards changes nothing."""
    metering.configure_meter("calls", customer_key="customer")
    payload = dict(GOOD, note=" kept  as it is ")
    metering.record("calls", payload, identifier="a")
    payload["value"] = "1000"
    (event,) = metering.events("calls")
    assert event.payload == {**GOOD, "note": " kept  as it is "}


class Plan(StrEnum):
    """Texts as a program may name them: a kind of text, and not text itself."""

    PRO = "pro"


class SafeText(str):
    """Text as a template engine hands it out."""

    __slots__ = ()


@pytest.mark.parametrize("pro", [Plan.PRO, SafeText("pro")], ids=["enumeration", "subclass"])
def test_a_kind_of_text_is_kept_as_text(metering: Metering, pro: str) -> None:
    """What is a text of somebody's own class is the text that it stands for."""
    metering.configure_meter("pro", customer_key="customer", dimension_keys=["plan"])
    metering.record(pro, {"customer": pro, "value": "1", "plan": pro}, identifier=pro)
    (event,) = metering.events("pro")
    assert (event.identifier, event.customer, event.dimensions) == ("pro", "pro", ("pro",))


def test_a_refused_report_is_not_said_to_conflict_with_a_later_one(metering: Metering) -> None:
    """A batch is answered as its reports one by one: refused comes before the report that takes the identifier."""
    metering.configure_meter("calls", customer_key="customer")
    report = {"event_name": "calls", "identifier": "a"}
    bad, good = report | {"payload": {"customer": "acme", "value": "1e3"}}, report | {"payload": GOOD}
    assert [str(one.outcome) for one in metering.record_many([bad, good, bad])] == ["rejected", "accepted", "conflict"]


def test_a_bad_report_never_fails_its_neighbours(metering: Metering, clock: Clock) -> None:
    """Each report of a batch is answered on its own, in order; what is good is recorded."""
    clock.now = moment("12:00")
    metering.configure_meter("calls", customer_key="customer")
    good = {"event_name": "calls", "payload": GOOD}
    reports: list[object] = [
        good | {"identifier": "a"},
        None,
        good | {"identifier": "a"},
        good | {"identifier": "d", "payload": {"customer": "acme", "value": "1e3"}},
        good | {"identifier": "a", "payload": {"customer": "beta", "value": "1"}},
        good | {"identifier": "i" * 101},
        good | {"identifier": "b"},
        good | {"event_name": "nothing"},
        good | {"timestamp": moment("12:06")},
        good | {"payload": {"customer": "acme", "value": 1}},
        good,
        good | {"identifier": "c", "payload": {"customer": "\ud800", "value": "1"}},
        good | {"identifier": "c"},
    ]
    receipts = metering.record_many(reports)
    assert [str(one.outcome) for one in receipts] == [
        "accepted", "rejected", "duplicate", "rejected", "conflict", "rejected", "accepted", "rejected", "rejected",
        "rejected", "accepted", "rejected", "accepted",
    ]  # fmt: skip
    assert [one.identifier for one in receipts[:7]] == ["a", None, "a", "d", "a", "i" * 101, "b"]
    assert [one.position for one in receipts if one.outcome == "accepted"] == [2, 3, 4, 5]
    assert receipts[2].position == receipts[4].position == 2
    refused = {"rejected", "conflict"}
    assert all((one.error is not None) == (one.outcome in refused) for one in receipts)
    assert all((one.position is None) == (one.outcome == "rejected") for one in receipts)
    assert len(metering.events("calls")) == 4


def test_a_batch_again_is_all_duplicates(metering: Metering) -> None:
    """A batch whose answer was lost is sent again as it is, with more behind it."""
    metering.configure_meter("calls", customer_key="customer")
    reports = [{"event_name": "calls", "payload": GOOD, "identifier": f"e{number}"} for number in range(1_200)]
    first = metering.record_many(reports[:1_000])
    again = metering.record_many(reports)
    assert [one.position for one in again[:1_000]] == [one.position for one in first]
    assert [str(one.outcome) for one in again] == ["duplicate"] * 1_000 + ["accepted"] * 200


def test_an_empty_batch_writes_nothing(metering: Metering) -> None:
    """No reports, no receipts."""
    assert metering.record_many([]) == []
    assert metering.catch_up() == 0


def test_a_refusal_tells_a_long_value_in_short(metering: Metering) -> None:
    """A message stays readable whatever was reported."""
    with pytest.raises(TallybookError) as refused:
        read_report({"event_name": "calls", "payload": {"k": "v" * 100_000}})
    assert len(refused.value.message) < 500


@pytest.mark.parametrize("field", ["event_name", "identifier", "payload", "timestamp"])
def test_a_report_that_no_encoding_takes_fails_no_neighbour(metering: Metering, field: str) -> None:
    """Half a surrogate pair in any field is refused by itself; what stands beside it is recorded."""
    metering.configure_meter("calls", customer_key="customer")
    good = {"event_name": "calls", "payload": GOOD, "identifier": "good"}
    receipts = metering.record_many([{**good, "identifier": "bad", field: "\ud800"}, good])
    assert [str(receipt.outcome) for receipt in receipts] == ["rejected", "accepted"]
    assert receipts[0].error is not None
    assert receipts[0].error.field == field


@pytest.mark.parametrize("reports", [None, 7])
def test_what_is_no_list_of_reports_is_refused(metering: Metering, reports: Any) -> None:
    """The refusal names the argument."""
    with pytest.raises(TallybookError) as refused:
        metering.record_many(reports)
    assert (refused.value.code, refused.value.field) == ("parameter_invalid", "reports")
