"""The code and the field of every error."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Metering, TallybookError

from ..notation import Clock
from .error_calls import (
    DAY,
    NAIVE,
    NOW,
    YESTERDAY,
    Call,
    cancel_call,
    cancel_many_call,
    change_rules_call,
    close_call,
    configure_call,
    create_key_call,
    events_call,
    promote_call,
    promote_candidate_call,
    promote_half_built,
    rebuild_twice_concurrently,
    record_call,
    reopen_call,
    revoke_call,
    settle_call,
    summaries_call,
    total_call,
)
from .ledger_errors import FILE_ERRORS

ERRORS: list[tuple[str, str | None, Call]] = [
    # generations and rules
    ("generation_not_found", "generation", promote_call(99)),
    ("generation_not_found", "generation", lambda metering: metering.generations.diff(99)),
    ("generation_not_found", "generation", lambda metering: metering.generations.drop(99)),
    ("parameter_invalid", "generation", promote_call("1")),
    ("parameter_invalid", "generation", promote_call(0)),
    ("parameter_invalid", "reason", promote_candidate_call()),
    ("parameter_invalid", "reason", promote_candidate_call(reason="")),
    ("parameter_invalid", "by", promote_candidate_call(reason="a test", by=7)),
    ("generation_in_use", "generation", lambda metering: metering.generations.drop(2)),
    ("generation_in_use", "generation", promote_half_built),
    ("rebuild_in_progress", None, rebuild_twice_concurrently),
    ("parameter_invalid", "rules", lambda metering: metering.generations.rebuild(rules=["calls"])),  # type: ignore[arg-type]
    ("incompatible_rules", "rules", change_rules_call({"value_key": "other"})),
    ("incompatible_rules", "rules", change_rules_call({"customer_key": "other"})),
    ("parameter_invalid", "rules", change_rules_call({})),
    ("parameter_invalid", "rules", change_rules_call({"display_name": "Calls"})),
    ("parameter_invalid", "rules", change_rules_call("last")),
    ("parameter_invalid", "formula", change_rules_call({"formula": "median"})),
    ("parameter_invalid", "event_time_window", change_rules_call({"event_time_window": "week"})),
    ("parameter_invalid", "value_key", change_rules_call({"value_key": ""})),
    ("parameter_invalid", "reason", change_rules_call({"formula": "last"}, reason=None)),
    ("no_meter", "event_name", change_rules_call({"formula": "last"}, event_name="nothing")),
    # meters
    ("no_meter", "event_name", record_call(event_name="nothing")),
    ("no_meter", "event_name", lambda metering: metering.meters.get("nothing")),
    ("no_meter", "event_name", lambda metering: metering.meters.rename("nothing", "Nothing")),
    ("no_meter", "event_name", lambda metering: metering.meters.deactivate("nothing")),
    ("no_meter", "event_name", lambda metering: metering.meters.reactivate("nothing")),
    ("no_meter", "event_name", lambda metering: metering.total("nothing", "acme", *DAY)),
    ("no_meter", "event_name", lambda metering: metering.totals("nothing", *DAY)),
    ("no_meter", "event_name", lambda metering: metering.summaries("nothing", "acme", *DAY, window="day")),
    ("no_meter", "event_name", lambda metering: metering.events("nothing")),
    ("no_meter", "event_name", lambda metering: metering.explain("nothing", "acme", *DAY)),
    ("no_meter", "event_name", cancel_call("nothing", "unknown")),
    ("archived_meter", "event_name", record_call(event_name="inactive")),
    ("derived_meter", "event_name", record_call(event_name="derived")),
    ("derived_meter", "event_name", lambda metering: metering.meters.deactivate("derived")),
    ("derived_meter", "source", configure_call("more", source="derived")),
    ("no_meter", "source", configure_call("more", source="nothing")),
    ("parameter_invalid", "source", configure_call("more", source="")),
    ("meter_already_exists", "event_name", configure_call("derived")),
    ("meter_already_exists", "event_name", configure_call("calls", formula="last")),
    ("meter_already_exists", "event_name", configure_call("calls", customer_key="customer", display_name="Other")),
    ("parameter_invalid", "event_name", configure_call("")),
    ("parameter_invalid", "event_name", configure_call("n" * 101)),
    ("parameter_invalid", "event_name", configure_call("n\0")),
    ("parameter_invalid", "event_name", configure_call("\ud800")),
    ("parameter_invalid", "event_name", configure_call(None)),
    ("parameter_invalid", "display_name", configure_call(display_name="")),
    ("parameter_invalid", "display_name", configure_call(display_name="n" * 251)),
    ("parameter_invalid", "display_name", lambda metering: metering.meters.rename("calls", "n" * 251)),
    ("parameter_invalid", "formula", configure_call(formula="average")),
    ("parameter_invalid", "formula", configure_call(formula=None)),
    ("parameter_invalid", "formula", configure_call(formula="SUM")),
    ("parameter_invalid", "event_time_window", configure_call(event_time_window="month")),
    ("parameter_invalid", "event_time_window", configure_call(event_time_window="")),
    ("parameter_invalid", "customer_key", configure_call(customer_key="")),
    ("parameter_invalid", "value_key", configure_call(value_key="k" * 101)),
    ("parameter_invalid", "dimension_keys", configure_call(dimension_keys="region")),
    ("parameter_invalid", "dimension_keys", configure_call(dimension_keys=["region", "region"])),
    ("parameter_invalid", "dimension_keys", configure_call(dimension_keys=[f"d{n}" for n in range(11)])),
    ("parameter_invalid", "dimension_keys", configure_call(dimension_keys=[""])),
    # reports
    ("payload_no_customer_defined", "customer", record_call({"value": "1"})),
    ("payload_no_customer_defined", "customer", record_call({"customer": "", "value": "1"})),
    ("payload_no_customer_defined", "customer", record_call({"customer": "ac\0me", "value": "1"})),
    ("payload_no_value_defined", "value", record_call({"customer": "acme"})),
    ("payload_invalid_value", "value", record_call({"customer": "acme", "value": "many"})),
    ("meter_event_value_too_many_digits", "value", record_call({"customer": "acme", "value": "1234567890123456"})),
    ("missing_dimension_payload_keys", "region", record_call(event_name="regional")),
    ("payload_invalid", "payload", record_call(7)),
    ("payload_invalid", "payload.value", record_call({"customer": "acme", "value": 1.0})),
    ("invalid_identifier", "identifier", record_call(identifier="")),
    ("invalid_identifier", "identifier", record_call(identifier=7)),
    ("invalid_timestamp", "timestamp", record_call(timestamp=NAIVE)),
    ("invalid_timestamp", "timestamp", record_call(timestamp="yesterday")),
    ("invalid_timestamp", "timestamp", record_call(timestamp=1_700_000_000)),
    ("timestamp_too_far_in_past", "timestamp", record_call(timestamp=NOW - timedelta(days=36))),
    ("timestamp_in_future", "timestamp", record_call(timestamp=NOW + timedelta(minutes=6))),
    ("duplicate_meter_event", "identifier", record_call(identifier="taken")),
    ("invalid_meter_event", "event_name", record_call(event_name=None)),
    ("invalid_meter_event", "event_name", record_call(event_name=7)),
    # cancels
    ("invalid_cancel_configuration", "identifier", cancel_call(identifier="unknown")),
    ("invalid_cancel_configuration", "identifier", cancel_call(identifier="old")),
    ("invalid_cancel_configuration", "event_name", cancel_call("regional")),
    ("invalid_cancel_configuration", "identifier", revoke_call(identifier="unknown")),
    ("invalid_cancel_configuration", "identifier", revoke_call()),
    ("invalid_cancel_configuration", "event_name", revoke_call("regional")),
    ("parameter_invalid", "reason", revoke_call(reason="")),
    ("parameter_invalid", "customer", cancel_many_call()),
    ("parameter_invalid", "reason", cancel_many_call(customer="acme", reason=None)),
    ("parameter_invalid", "identifier_prefix", cancel_many_call(identifier_prefix="")),
    ("parameter_invalid", "max_events", cancel_many_call(customer="acme", max_events=0)),
    ("parameter_invalid", "where", cancel_many_call(where={"model": "small"})),
    ("invalid_time_range", "start", cancel_many_call(start=DAY[1], end=DAY[0])),
    ("invalid_time_range", "start", cancel_many_call(recorded_from=NAIVE)),
    ("unknown_timezone", "timezone", lambda metering: metering.cancellations.preview("calls", timezone="Mars")),
    ("invalid_cancel_configuration", "event_name", cancel_many_call(customer="nobody")),
    ("preview_changed", "digest", cancel_many_call(customer="acme", digest="0")),
    ("no_meter", "event_name", cancel_many_call(event_name="unknown", customer="acme")),
    ("import_run_not_found", "import_run", cancel_many_call(import_run="unknown")),
    ("import_run_not_found", "import_run", lambda metering: metering.imports.undo("unknown", reason="a test")),
    ("cancellation_not_found", "cancellation_id", lambda metering: metering.cancellations.get("unknown")),
    ("parameter_invalid", "identifier", cancel_call(identifier="")),
    ("parameter_invalid", "identifier", cancel_call(identifier="i" * 101)),
    ("parameter_invalid", "identifier", cancel_call(identifier=None)),
    ("parameter_invalid", "event_name", cancel_call("")),
    ("parameter_invalid", "reason", cancel_call(reason="r" * 501)),
    ("parameter_invalid", "reason", cancel_call(reason="")),
    ("parameter_invalid", "by", cancel_call(by=7)),
    # questions
    ("invalid_time_range", "start", total_call(*reversed(DAY))),
    ("invalid_time_range", "start", total_call(start=NAIVE)),
    ("invalid_time_range", "end", total_call(end=NAIVE)),
    ("invalid_time_range", "start", total_call(start=None)),
    ("invalid_time_range", "end", total_call(end="2026-11-01")),
    ("invalid_time_range", "start", lambda metering: metering.totals("calls", *reversed(DAY))),
    ("invalid_time_range", "start", lambda metering: metering.explain("calls", None, *reversed(DAY))),
    ("invalid_time_range", "start", summaries_call(end=DAY[0] - timedelta(hours=1))),
    ("invalid_time_range", "start", events_call(start=DAY[1], end=DAY[0])),
    ("invalid_time_range", "start", events_call(start=NAIVE)),
    ("invalid_time_range", "end", events_call(end=NAIVE)),
    ("invalid_as_of", "as_of", total_call(as_of=-1)),
    ("invalid_as_of", "as_of", total_call(as_of=True)),
    ("invalid_as_of", "as_of", total_call(as_of=NAIVE)),
    ("invalid_as_of", "as_of", total_call(as_of="2026-11-01")),
    ("invalid_as_of", "as_of", total_call(as_of=1.0)),
    ("parameter_invalid", "customer", total_call(customer="")),
    ("parameter_invalid", "customer", total_call(customer=7)),
    ("parameter_invalid", "customer", total_call(customer="c" * 5_001)),
    ("parameter_invalid", "window", summaries_call(window="week")),
    ("parameter_invalid", "window", summaries_call(window=None)),
    ("unknown_timezone", "timezone", summaries_call(timezone="Mars/Olympus")),
    ("unknown_timezone", "timezone", summaries_call(timezone="")),
    ("unknown_timezone", "timezone", summaries_call(timezone="../etc/passwd")),
    ("unknown_timezone", "timezone", summaries_call(timezone=None)),
    ("unknown_timezone", "timezone", summaries_call(timezone="Europe")),
    ("parameter_invalid", "limit", events_call(limit=0)),
    ("parameter_invalid", "limit", events_call(limit=10_001)),
    ("parameter_invalid", "limit", events_call(limit=True)),
    ("parameter_invalid", "limit", events_call(limit="10")),
    ("invalid_identifier", "starting_after", events_call(starting_after="unknown")),
    # jobs and tasks
    ("job_not_found", "name", lambda metering: metering.jobs.get("nothing")),
    ("parameter_invalid", "name", lambda metering: metering.jobs.get("No name")),
    ("task_not_found", "id", lambda metering: metering.tasks.get("nothing")),
    # access keys
    ("access_key_not_found", "id", lambda metering: metering.access_keys.revoke("0" * 16)),
    ("access_key_not_found", "id", lambda metering: metering.access_keys.revoke("nothing")),
    ("access_key_not_found", "id", lambda metering: metering.access_keys.revoke(None)),  # type: ignore[arg-type]
    ("access_key_not_found", "id", lambda metering: metering.access_keys.get("0" * 16)),
    ("access_key_not_found", "id", lambda metering: metering.access_keys.get("nothing")),
    ("parameter_invalid", "reason", lambda metering: metering.access_keys.revoke("0" * 16, reason="")),
    ("parameter_invalid", "by", lambda metering: metering.access_keys.revoke("0" * 16, by="b" * 501)),
    ("parameter_invalid", "scopes", create_key_call([])),
    ("parameter_invalid", "scopes", create_key_call("read")),
    ("parameter_invalid", "scopes", create_key_call(["read", "write"])),
    ("parameter_invalid", "scopes", create_key_call(["read", "read"])),
    ("parameter_invalid", "scopes", create_key_call(None)),
    ("parameter_invalid", "name", create_key_call(["read"], name="n" * 251)),
    ("parameter_invalid", "name", create_key_call(["read"], name=None)),
    ("parameter_invalid", "livemode", create_key_call(["read"], livemode=1)),
    ("parameter_invalid", "by", create_key_call(["read"], by="")),
    (
        "invalid_access_key",
        None,
        lambda metering: metering.access_keys.authenticate(f"sk_live_{'0' * 16}_{'s' * 43}"),
    ),
    ("invalid_access_key", None, lambda metering: metering.access_keys.authenticate("")),
    ("invalid_access_key", None, lambda metering: metering.access_keys.authenticate(None)),  # type: ignore[arg-type]
    ("meter_event_not_found", "identifier", lambda metering: metering.event("unknown")),
    ("meter_event_not_found", "identifier", lambda metering: metering.event("taken", as_of=1)),
    ("meter_event_not_found", "identifier", lambda metering: metering.event("taken", as_of=NOW - timedelta(days=1))),
    ("parameter_invalid", "identifier", lambda metering: metering.event("")),
    ("invalid_as_of", "as_of", lambda metering: metering.event("taken", as_of=-1)),
    # closed periods
    ("period_not_ended", "end", close_call(*DAY)),
    ("period_not_ended", "end", close_call(DAY[0], NOW - timedelta(minutes=59))),
    ("period_overlaps", "start", close_call(NOW - timedelta(days=1), NOW - timedelta(hours=1))),
    ("invalid_time_range", "start", close_call(DAY[0], YESTERDAY[0])),
    ("invalid_time_range", "end", close_call(DAY[0], DAY[0])),
    ("invalid_time_range", "start", close_call(NAIVE, DAY[0])),
    ("invalid_time_range", "end", close_call(DAY[0], "2026-11-01")),
    (
        "customer_without_usage",
        "customer",
        lambda metering: metering.periods.close("calls", "nobody", YESTERDAY[0] - timedelta(days=1), YESTERDAY[0]),
    ),
    ("period_not_closed", "start", reopen_call(*DAY)),
    ("invalid_time_range", "end", reopen_call(DAY[0], NAIVE)),
    ("period_not_closed", "start", settle_call(*DAY, position=9)),
    ("settlement_exists", "document", settle_call(*YESTERDAY, position=9)),
    ("adjustment_not_found", "start", settle_call(*YESTERDAY, position=5, document="CN-8")),
    ("adjustment_not_found", "start", settle_call(*YESTERDAY, position=4, document="CN-8")),
    ("period_settled", "withdraw_settlements", settle_call(*YESTERDAY, position=5, then_reopen=True)),
    ("parameter_invalid", "document", lambda metering: metering.periods.settle("calls", "acme", *DAY, document="")),
    (
        "parameter_invalid",
        "rules",
        lambda metering: metering.periods.close("calls", "acme", *DAY, rules="first"),  # type: ignore[arg-type]
    ),
]


@pytest.fixture
def populated_ledger(metering: Metering, clock: Clock) -> Metering:
    """Return a ledger with meters of each kind and two events."""
    metering.meters.configure("calls", customer_key="customer")
    metering.meters.configure("regional", customer_key="customer", dimension_keys=["region"])
    metering.meters.configure("inactive", customer_key="customer")
    metering.meters.configure("derived", source="inactive", customer_key="customer")
    metering.meters.deactivate("inactive")
    clock.now = NOW - timedelta(days=2)
    metering.record("calls", {"customer": "acme", "value": "7"}, identifier="old")
    clock.now = NOW
    metering.record("calls", {"customer": "acme", "value": "7"}, identifier="taken")
    return metering


@pytest.mark.parametrize(("code", "field", "call"), ERRORS, ids=[f"{c}-{f}-{n}" for n, (c, f, _) in enumerate(ERRORS)])
def test_an_error_has_its_code_and_field(populated_ledger: Metering, code: str, field: str | None, call: Call) -> None:
    """Each error has its code, its field and a sentence as message; nothing is written."""
    head = populated_ledger.catch_up()
    with pytest.raises(TallybookError) as exc_info:
        call(populated_ledger)
    assert (exc_info.value.code, exc_info.value.field) == (code, field)
    assert exc_info.value.as_dict() == {"code": code, "field": field, "message": str(exc_info.value)}
    assert str(exc_info.value).endswith((".", ")"))
    assert populated_ledger.catch_up() == head


CALLS_BY_EVENT_NAME: dict[str, Callable[[Metering, str], object]] = {
    "meter": lambda metering, name: metering.meters.get(name),
    "rename": lambda metering, name: metering.meters.rename(name, "Name"),
    "record": lambda metering, name: metering.record(name, {"customer": "acme", "value": "1"}),
    "cancel": lambda metering, name: metering.cancel(name, "taken"),
    "total": lambda metering, name: metering.total(name, "acme", *DAY),
    "events": lambda metering, name: metering.events(name),
}


@pytest.mark.parametrize("call", CALLS_BY_EVENT_NAME.values(), ids=CALLS_BY_EVENT_NAME)
@pytest.mark.parametrize(
    "event_name", ["\ud800", "n\0", "n" * 10_000, "", 7], ids=["surrogate", "nul", "long", "empty", "number"]
)
def test_an_impossible_event_name_is_rejected(
    populated_ledger: Metering, call: Callable[[Metering, str], object], event_name: Any
) -> None:
    """The error has the field `event_name`."""
    with pytest.raises(TallybookError) as exc_info:
        call(populated_ledger, event_name)
    assert exc_info.value.field == "event_name"


@pytest.mark.parametrize(
    "identifier", ["", "i" * 101, "i\0", "\ud800", 7], ids=["empty", "long", "nul", "surrogate", "number"]
)
def test_an_impossible_identifier_is_rejected(populated_ledger: Metering, identifier: Any) -> None:
    """As a cursor of a list too."""
    with pytest.raises(TallybookError) as exc_info:
        populated_ledger.events("calls", starting_after=identifier)
    assert exc_info.value.field == "starting_after"


@pytest.mark.parametrize(("code", "field", "call"), FILE_ERRORS)
def test_an_invalid_file_has_its_error_code(
    tmp_path: Path, code: str, field: str, call: Callable[[Path], object]
) -> None:
    """An error of a ledger's URL or file has its code and its field."""
    with pytest.raises(TallybookError) as exc_info:
        call(tmp_path / "usage.db")
    assert (exc_info.value.code, exc_info.value.field) == (code, field)
