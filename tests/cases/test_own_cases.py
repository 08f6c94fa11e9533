"""Own cases in the vendors' format, for what their cases about closed periods do not cover."""

from typing import Any

import pytest
from pydantic import ValidationError
from tallybook.application import TallybookError

from .case_types import check

Stored = dict[str, Any]


def day(number: int) -> str:
    """Return midnight of a day of January."""
    return f"2025-01-{number:02d}T00:00:00Z"


def period(first: int, last: int) -> Stored:
    """Return the period between the midnights of two days."""
    return {"start": day(first), "end": day(last)}


def event(name: str, on: int, value: str, received: int | None = None) -> Stored:
    """Return a meter event of a day, received then or on a later day."""
    return {
        "id": name, "event_name": "usage", "customer": "c", "timestamp": day(on), "payload": {"value": value},
        "received_at": day(received or on),
    }  # fmt: skip


def case(kind: str, aggregation: str, window: str | None = None, **fields: object) -> Stored:
    """Return a case of a kind."""
    meter: Stored = {
        "aggregation": aggregation,
        "event_name": "usage",
        "value_key": "value",
        "event_time_window": window,
    }
    about: Stored = {"name": "ours", "dialect": "common", "source": "", "origin": "", "tags": "", "stripe_core": False}
    result: Stored = {"kind": kind, "meter": meter, "events": [], "query": None, "expected": None}
    return about | result | fields


def close(at: int, bounds: tuple[int, int], total: str, *corrections: tuple[int, int, str]) -> Stored:
    """Return a close of a sequence, with its expected result."""
    expected_corrections = [period(first, last) | {"delta": delta} for first, last, delta in corrections]
    return {"at": day(at), "period": period(*bounds), "expect": {"total": total, "corrections": expected_corrections}}


def cancel(name: str, at: int) -> Stored:
    """Return a cancellation between closes."""
    return {"op": "cancel", "event_id": name, "at": day(at)}


def step(op: str, **fields: Any) -> Stored:
    """Return a step of a lifecycle; for January if it is about a period."""
    about = {"customer": "c", "period": period(1, 31)} if op in {"close", "reopen", "read_period"} else {}
    return {"op": op} | about | fields


CASES = {
    "several closes, each with corrections of several periods": case(
        "close_sequence", "sum",
        events=[
            event("a", 2, "3"), event("b", 12, "5"), event("c", 22, "7"),
            event("a2", 3, "1", 21), event("b2", 13, "-2", 21), event("a3", 4, "10", 29), event("b3", 14, "20", 30),
        ],
        closes=[
            close(10, (1, 10), "3"),
            close(20, (10, 20), "5"),
            close(28, (20, 28), "7", (1, 10, "1"), (10, 20, "-2")),
            close(30, (28, 30), "0", (1, 10, "10"), (10, 20, "20")),
        ],
    ),
    "a late event that is cancelled before the next close owes nothing": case(
        "close_sequence", "count",
        events=[event("a", 2, "3"), event("late", 3, "1", 12)],
        actions=[cancel("late", 13), cancel("a", 22)],
        closes=[close(10, (1, 10), "1"), close(20, (10, 20), "0"), close(28, (20, 28), "0", (1, 10, "-1"))],
    ),
    "a cancel after a correction takes it back": case(
        "close_sequence", "sum",
        events=[event("a", 2, "3"), event("late", 3, "4", 12)],
        actions=[cancel("late", 22)],
        closes=[
            close(10, (1, 10), "3"), close(20, (10, 20), "0", (1, 10, "4")), close(28, (20, 28), "0", (1, 10, "-4"))
        ],
    ),
    "the last of each day": case(
        "close_sequence", "last", "day",
        events=[event("a", 2, "3"), event("a2", 2, "8", 12), event("b", 13, "5")],
        closes=[close(10, (1, 10), "3"), close(20, (10, 20), "5", (1, 10, "5"))],
    ),
    "rejected, closed, corrected, reopened and closed again": case(
        "lifecycle", "sum",
        steps=[
            step("record", event=event("a", 5, "100"), expect={"outcome": "accepted"}),
            step("record", event=event("a", 5, "100"), expect={"outcome": "duplicate"}),
            step("close", at=day(30), expect={"outcome": "rejected"}),
            step("close", at=day(31), expect={"frozen": "100", "event_count": 1, "already_closed": False}),
            step("close", expect={"frozen": "100", "already_closed": True}),
            step("adjust", id="x", customer="c", timestamp=day(6), delta="-40", corrects="a", reason="overcount"),
            step("read_period", expect={"frozen": "100", "adjustments": "-40", "net": "60", "live": "60"}),
            step("cancel", event_id="a", reason="never happened"),
            step("read_period", expect={"frozen": "100", "adjustments": "-140", "drift": "-140", "live": "-40"}),
            step("reopen", reason="wrong from the start"),
            step("reopen", expect={"outcome": "rejected"}),
            step("read_period", expect={"frozen": None, "live": "-40"}),
            step("close", expect={"frozen": "-40", "event_count": 1, "already_closed": False}),
        ],
    ),
    "the last value moves": case(
        "lifecycle", "last",
        steps=[
            step("record", event=event("a", 5, "4")),
            step("close", expect={"frozen": "4"}),
            step("record", event=event("b", 6, "9")),
            step("read_period", expect={"frozen": "4", "adjustments": "5", "net": "9", "live": "9", "drift": "5"}),
        ],
    ),
}  # fmt: skip

INCORRECT_CASES = {
    "another total": case("lifecycle", "sum", steps=[step("close", expect={"frozen": "1"})]),
    "an unexpected error": case("lifecycle", "sum", steps=[step("reopen")]),
    "another correction": case(
        "close_sequence", "sum",
        events=[event("a", 2, "3"), event("late", 3, "4", 12)],
        closes=[close(10, (1, 10), "3"), close(20, (10, 20), "0", (1, 10, "3"))],
    ),
    "an unexpected correction": case(
        "close_sequence", "sum",
        events=[event("a", 2, "3"), event("late", 3, "4", 12)],
        closes=[close(10, (1, 10), "3"), close(20, (10, 20), "0")],
    ),
    "an unknown operation": case("lifecycle", "sum", steps=[step("approve")]),
    "an unknown expectation": case("lifecycle", "sum", steps=[step("close", expect={"approved": True})]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_own_case(name: str) -> None:
    """It is checked as the vendors' cases are."""
    check(CASES[name], in_one_batch=False)


@pytest.mark.parametrize("name", INCORRECT_CASES)
def test_an_incorrect_case_fails(name: str) -> None:
    """Every expectation of a case is checked, and an unknown field fails."""
    with pytest.raises((AssertionError, TallybookError, ValidationError)):
        check(INCORRECT_CASES[name], in_one_batch=False)
