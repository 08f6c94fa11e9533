"""Every refusal: its code, and the field that it names."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Metering, TallybookError, check_growth, check_proof
from tallybook.domain import AcceptancePolicy, ClosedPeriods, Figures, Rules, errors

from ..notation import Clock, moment

NOW = moment("12:00")
NAIVE = NOW.replace(tzinfo=None)
DAY = moment("00:00"), moment("11T00:00")
Call = Callable[[Metering], object]


def report(
    payload: object = None, identifier: object = None, timestamp: object = None, event_name: object = "calls"
) -> Call:
    """A call that reports this; what isn't given is as it should be."""
    given = {"customer": "acme", "value": "1"} if payload is None else payload
    return lambda metering: metering.record(event_name, given, identifier=identifier, timestamp=timestamp)  # type: ignore[arg-type]


def configure(event_name: object = "new", **arguments: object) -> Call:
    """A call that configures a meter."""
    return lambda metering: metering.configure_meter(event_name, **arguments)  # type: ignore[arg-type]


def total(start: object = DAY[0], end: object = DAY[1], as_of: object = None, customer: object = "acme") -> Call:
    """A call that asks for a total."""
    return lambda metering: metering.total("calls", customer, start, end, as_of=as_of)  # type: ignore[arg-type]


def summaries(window: object = "hour", timezone: object = "UTC", end: datetime = DAY[1]) -> Call:
    """A call that asks for summaries."""
    return lambda metering: metering.summaries("calls", "acme", DAY[0], end, window=window, timezone=timezone)  # type: ignore[arg-type]


def events(**arguments: object) -> Call:
    """A call that lists events."""
    return lambda metering: metering.events("calls", **arguments)  # type: ignore[arg-type]


def cancel(event_name: object = "calls", identifier: object = "taken", **arguments: object) -> Call:
    """A call that cancels."""
    return lambda metering: metering.cancel(event_name, identifier, **arguments)  # type: ignore[arg-type]


def close(start: object, end: object, at: datetime = NOW) -> Call:
    """A call that closes a period."""
    return lambda _: closed_yesterday().close(start, end, NOTHING, at=at, policy=AcceptancePolicy())  # type: ignore[arg-type]


def reopen(start: object, end: object) -> Call:
    """A call that reopens a period."""
    return lambda _: closed_yesterday().reopen(start, end, reason=None, by=None, at=NOW)  # type: ignore[arg-type]


def closed_yesterday() -> ClosedPeriods:
    """A customer's periods, of which yesterday is closed."""
    periods = ClosedPeriods.begin("calls", "acme", at=NOW)
    periods.close(*YESTERDAY, NOTHING, at=NOW, policy=AcceptancePolicy())
    return periods


def create_key(scopes: object, **arguments: object) -> Call:
    """A call that creates an access key."""
    return lambda metering: metering.create_access_key(scopes, **arguments)  # type: ignore[arg-type]


YESTERDAY = DAY[0] - timedelta(days=1), DAY[0]
NOTHING = Figures(
    quantity=Decimal(0), billable=Decimal(0), sum=Decimal(0), count=0, last=None,
    rules=Rules(), revision=1, position=0, digest="",
)  # fmt: skip


def promote(generation: object, **arguments: object) -> Call:
    """A call that promotes a generation."""
    return lambda metering: metering.promote(generation, **arguments)  # type: ignore[arg-type]


def change_rules(rules: object, event_name: object = "calls", reason: object = "a test") -> Call:
    """A call that changes rules."""
    return lambda metering: metering.change_rules(event_name, rules, reason=reason)  # type: ignore[arg-type]


def promote_candidate(**arguments: object) -> Call:
    """A call that promotes a candidate of other rules."""

    def call(metering: Metering) -> object:
        return promote(metering.rebuild(rules={"calls": {"formula": "last"}}).number, **arguments)(metering)

    return call


def promote_half_built(metering: Metering) -> object:
    """A call that promotes a generation whose rebuild was interrupted."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        metering.rebuild(progress=interrupt)
    return metering.promote(metering.generations()[-1].number)


def rebuild_twice_at_once(metering: Metering) -> object:
    """A call that rebuilds while a rebuild is running."""
    return metering.rebuild(progress=lambda _: metering.rebuild() and None)


REFUSALS: list[tuple[str, str | None, Call]] = [
    # generations and rules
    ("no_generation", "generation", promote(99)),
    ("no_generation", "generation", lambda metering: metering.diff(99)),
    ("no_generation", "generation", lambda metering: metering.drop_generation(99)),
    ("parameter_invalid", "generation", promote("1")),
    ("parameter_invalid", "generation", promote(0)),
    ("parameter_invalid", "reason", promote_candidate()),
    ("parameter_invalid", "reason", promote_candidate(reason="")),
    ("parameter_invalid", "by", promote_candidate(reason="a test", by=7)),
    ("generation_in_use", "generation", lambda metering: metering.drop_generation(1)),
    ("generation_in_use", "generation", promote_half_built),
    ("rebuild_running", None, rebuild_twice_at_once),
    ("parameter_invalid", "rules", lambda metering: metering.rebuild(rules=["calls"])),  # type: ignore[arg-type]
    ("rules_cannot_read", "rules", change_rules({"value_key": "other"})),
    ("rules_cannot_read", "rules", change_rules({"customer_key": "other"})),
    ("parameter_invalid", "rules", change_rules({})),
    ("parameter_invalid", "rules", change_rules({"display_name": "Calls"})),
    ("parameter_invalid", "rules", change_rules("last")),
    ("parameter_invalid", "formula", change_rules({"formula": "median"})),
    ("parameter_invalid", "event_time_window", change_rules({"event_time_window": "week"})),
    ("parameter_invalid", "value_key", change_rules({"value_key": ""})),
    ("parameter_invalid", "reason", change_rules({"formula": "last"}, reason=None)),
    ("no_meter", "event_name", change_rules({"formula": "last"}, event_name="nothing")),
    # meters
    ("no_meter", "event_name", report(event_name="nothing")),
    ("no_meter", "event_name", lambda metering: metering.meter("nothing")),
    ("no_meter", "event_name", lambda metering: metering.rename_meter("nothing", "Nothing")),
    ("no_meter", "event_name", lambda metering: metering.deactivate_meter("nothing")),
    ("no_meter", "event_name", lambda metering: metering.reactivate_meter("nothing")),
    ("no_meter", "event_name", lambda metering: metering.total("nothing", "acme", *DAY)),
    ("no_meter", "event_name", lambda metering: metering.totals("nothing", *DAY)),
    ("no_meter", "event_name", lambda metering: metering.summaries("nothing", "acme", *DAY, window="day")),
    ("no_meter", "event_name", lambda metering: metering.events("nothing")),
    ("no_meter", "event_name", lambda metering: metering.explain("nothing", "acme", *DAY)),
    ("no_meter", "event_name", cancel("nothing", "unknown")),
    ("archived_meter", "event_name", report(event_name="inactive")),
    ("meter_already_exists", "event_name", configure("calls", formula="last")),
    ("meter_already_exists", "event_name", configure("calls", customer_key="customer", display_name="Other")),
    ("parameter_invalid", "event_name", configure("")),
    ("parameter_invalid", "event_name", configure("n" * 101)),
    ("parameter_invalid", "event_name", configure("n\0")),
    ("parameter_invalid", "event_name", configure("\ud800")),
    ("parameter_invalid", "event_name", configure(None)),
    ("parameter_invalid", "display_name", configure(display_name="")),
    ("parameter_invalid", "display_name", configure(display_name="n" * 251)),
    ("parameter_invalid", "display_name", lambda metering: metering.rename_meter("calls", "n" * 251)),
    ("parameter_invalid", "formula", configure(formula="average")),
    ("parameter_invalid", "formula", configure(formula=None)),
    ("parameter_invalid", "formula", configure(formula="SUM")),
    ("parameter_invalid", "event_time_window", configure(event_time_window="month")),
    ("parameter_invalid", "event_time_window", configure(event_time_window="")),
    ("parameter_invalid", "customer_key", configure(customer_key="")),
    ("parameter_invalid", "value_key", configure(value_key="k" * 101)),
    ("parameter_invalid", "dimension_keys", configure(dimension_keys="region")),
    ("parameter_invalid", "dimension_keys", configure(dimension_keys=["region", "region"])),
    ("parameter_invalid", "dimension_keys", configure(dimension_keys=[f"d{n}" for n in range(11)])),
    ("parameter_invalid", "dimension_keys", configure(dimension_keys=[""])),
    # reports
    ("payload_no_customer_defined", "customer", report({"value": "1"})),
    ("payload_no_customer_defined", "customer", report({"customer": "", "value": "1"})),
    ("payload_no_customer_defined", "customer", report({"customer": "ac\0me", "value": "1"})),
    ("payload_no_value_defined", "value", report({"customer": "acme"})),
    ("payload_invalid_value", "value", report({"customer": "acme", "value": "many"})),
    ("meter_event_value_too_many_digits", "value", report({"customer": "acme", "value": "1234567890123456"})),
    ("missing_dimension_payload_keys", "region", report(event_name="regional")),
    ("payload_invalid", "payload", report(7)),
    ("payload_invalid", "payload.value", report({"customer": "acme", "value": 1})),
    ("invalid_identifier", "identifier", report(identifier="")),
    ("invalid_identifier", "identifier", report(identifier=7)),
    ("invalid_timestamp", "timestamp", report(timestamp=NAIVE)),
    ("invalid_timestamp", "timestamp", report(timestamp="yesterday")),
    ("invalid_timestamp", "timestamp", report(timestamp=1_700_000_000)),
    ("timestamp_too_far_in_past", "timestamp", report(timestamp=NOW - timedelta(days=36))),
    ("timestamp_in_future", "timestamp", report(timestamp=NOW + timedelta(minutes=6))),
    ("duplicate_meter_event", "identifier", report(identifier="taken")),
    ("invalid_report", "event_name", report(event_name=None)),
    ("invalid_report", "event_name", report(event_name=7)),
    # cancels
    ("invalid_cancel_configuration", "identifier", cancel(identifier="unknown")),
    ("invalid_cancel_configuration", "identifier", cancel(identifier="old")),
    ("invalid_cancel_configuration", "event_name", cancel("regional")),
    ("parameter_invalid", "identifier", cancel(identifier="")),
    ("parameter_invalid", "identifier", cancel(identifier="i" * 101)),
    ("parameter_invalid", "identifier", cancel(identifier=None)),
    ("parameter_invalid", "event_name", cancel("")),
    ("parameter_invalid", "reason", cancel(reason="r" * 501)),
    ("parameter_invalid", "reason", cancel(reason="")),
    ("parameter_invalid", "by", cancel(by=7)),
    # questions
    ("invalid_time_range", "start", total(*reversed(DAY))),
    ("invalid_time_range", "start", total(start=NAIVE)),
    ("invalid_time_range", "end", total(end=NAIVE)),
    ("invalid_time_range", "start", total(start=None)),
    ("invalid_time_range", "end", total(end="2026-11-01")),
    ("invalid_time_range", "start", lambda metering: metering.totals("calls", *reversed(DAY))),
    ("invalid_time_range", "start", lambda metering: metering.explain("calls", None, *reversed(DAY))),
    ("invalid_time_range", "start", summaries(end=DAY[0] - timedelta(hours=1))),
    ("invalid_time_range", "start", events(start=DAY[1], end=DAY[0])),
    ("invalid_time_range", "start", events(start=NAIVE)),
    ("invalid_time_range", "end", events(end=NAIVE)),
    ("invalid_as_of", "as_of", total(as_of=-1)),
    ("invalid_as_of", "as_of", total(as_of=True)),
    ("invalid_as_of", "as_of", total(as_of=NAIVE)),
    ("invalid_as_of", "as_of", total(as_of="2026-11-01")),
    ("invalid_as_of", "as_of", total(as_of=1.0)),
    ("parameter_invalid", "customer", total(customer="")),
    ("parameter_invalid", "customer", total(customer=7)),
    ("parameter_invalid", "customer", total(customer="c" * 5_001)),
    ("parameter_invalid", "window", summaries(window="week")),
    ("parameter_invalid", "window", summaries(window=None)),
    ("unknown_timezone", "timezone", summaries(timezone="Mars/Olympus")),
    ("unknown_timezone", "timezone", summaries(timezone="")),
    ("unknown_timezone", "timezone", summaries(timezone="../etc/passwd")),
    ("unknown_timezone", "timezone", summaries(timezone=None)),
    ("unknown_timezone", "timezone", summaries(timezone="Europe")),
    ("parameter_invalid", "limit", events(limit=0)),
    ("parameter_invalid", "limit", events(limit=10_001)),
    ("parameter_invalid", "limit", events(limit=True)),
    ("parameter_invalid", "limit", events(limit="10")),
    ("invalid_identifier", "starting_after", events(starting_after="unknown")),
    # access keys
    ("no_access_key", "id", lambda metering: metering.revoke_access_key("0" * 16)),
    ("no_access_key", "id", lambda metering: metering.revoke_access_key("nothing")),
    ("no_access_key", "id", lambda metering: metering.revoke_access_key(None)),  # type: ignore[arg-type]
    ("no_access_key", "id", lambda metering: metering.access_key("0" * 16)),
    ("no_access_key", "id", lambda metering: metering.access_key("nothing")),
    ("parameter_invalid", "reason", lambda metering: metering.revoke_access_key("0" * 16, reason="")),
    ("parameter_invalid", "by", lambda metering: metering.revoke_access_key("0" * 16, by="b" * 501)),
    ("parameter_invalid", "scopes", create_key([])),
    ("parameter_invalid", "scopes", create_key("read")),
    ("parameter_invalid", "scopes", create_key(["read", "write"])),
    ("parameter_invalid", "scopes", create_key(["read", "read"])),
    ("parameter_invalid", "scopes", create_key(None)),
    ("parameter_invalid", "name", create_key(["read"], name="n" * 251)),
    ("parameter_invalid", "name", create_key(["read"], name=None)),
    ("parameter_invalid", "livemode", create_key(["read"], livemode=1)),
    ("parameter_invalid", "by", create_key(["read"], by="")),
    ("invalid_access_key", None, lambda metering: metering.authenticate(f"sk_live_{'0' * 16}_{'s' * 43}")),
    ("invalid_access_key", None, lambda metering: metering.authenticate("")),
    ("invalid_access_key", None, lambda metering: metering.authenticate(None)),  # type: ignore[arg-type]
    ("no_meter_event", "identifier", lambda metering: metering.event("unknown")),
    ("no_meter_event", "identifier", lambda metering: metering.event("taken", as_of=1)),
    ("no_meter_event", "identifier", lambda metering: metering.event("taken", as_of=NOW - timedelta(days=1))),
    ("parameter_invalid", "identifier", lambda metering: metering.event("")),
    ("invalid_as_of", "as_of", lambda metering: metering.event("taken", as_of=-1)),
    # closed periods
    ("period_not_over", "end", close(*DAY)),
    ("period_not_over", "end", close(DAY[0], NOW - timedelta(minutes=59))),
    ("period_overlaps", "start", close(NOW - timedelta(days=1), NOW - timedelta(hours=1))),
    ("invalid_time_range", "start", close(DAY[0], YESTERDAY[0])),
    ("invalid_time_range", "end", close(DAY[0], DAY[0])),
    ("invalid_time_range", "start", close(NAIVE, DAY[0])),
    ("invalid_time_range", "end", close(DAY[0], "2026-11-01")),
    ("period_not_closed", "start", reopen(*DAY)),
    ("invalid_time_range", "end", reopen(DAY[0], NAIVE)),
]


@pytest.fixture
def told(metering: Metering, clock: Clock) -> Metering:
    """A ledger with meters of each sort and two events."""
    metering.configure_meter("calls", customer_key="customer")
    metering.configure_meter("regional", customer_key="customer", dimension_keys=["region"])
    metering.configure_meter("inactive", customer_key="customer")
    metering.deactivate_meter("inactive")
    clock.now = NOW - timedelta(days=2)
    metering.record("calls", {"customer": "acme", "value": "7"}, identifier="old")
    clock.now = NOW
    metering.record("calls", {"customer": "acme", "value": "7"}, identifier="taken")
    return metering


@pytest.mark.parametrize(
    ("code", "field", "call"), REFUSALS, ids=[f"{c}-{f}-{n}" for n, (c, f, _) in enumerate(REFUSALS)]
)
def test_a_refusal_names_its_code_and_field(told: Metering, code: str, field: str | None, call: Call) -> None:
    """Each refusal has its code, names the field, says a sentence, and writes nothing."""
    head = told.catch_up()
    with pytest.raises(TallybookError) as refused:
        call(told)
    assert (refused.value.code, refused.value.field) == (code, field)
    assert refused.value.as_dict() == {"code": code, "field": field, "message": str(refused.value)}
    assert str(refused.value).endswith((".", ")"))
    assert told.catch_up() == head


NAMED: dict[str, Callable[[Metering, str], object]] = {
    "meter": lambda metering, name: metering.meter(name),
    "rename": lambda metering, name: metering.rename_meter(name, "Name"),
    "record": lambda metering, name: metering.record(name, {"customer": "acme", "value": "1"}),
    "cancel": lambda metering, name: metering.cancel(name, "taken"),
    "total": lambda metering, name: metering.total(name, "acme", *DAY),
    "events": lambda metering, name: metering.events(name),
}


@pytest.mark.parametrize("call", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize(
    "event_name", ["\ud800", "n\0", "n" * 10_000, "", 7], ids=["surrogate", "nul", "long", "empty", "number"]
)
def test_an_event_name_that_no_meter_can_have_is_refused(
    told: Metering, call: Callable[[Metering, str], object], event_name: Any
) -> None:
    """Whatever is asked for as a meter, the refusal names the event name."""
    with pytest.raises(TallybookError) as refused:
        call(told, event_name)
    assert refused.value.field == "event_name"


@pytest.mark.parametrize(
    "identifier", ["", "i" * 101, "i\0", "\ud800", 7], ids=["empty", "long", "nul", "surrogate", "number"]
)
def test_an_identifier_that_no_event_can_have_is_refused(told: Metering, identifier: Any) -> None:
    """Also where a list is asked to go on after it."""
    with pytest.raises(TallybookError) as refused:
        told.events("calls", starting_after=identifier)
    assert refused.value.field == "starting_after"


def stopped(path: Path) -> None:
    """A ledger with an event that no fold knows, as a later version may write."""
    url = f"sqlite:///{path}"
    Metering.open(url).close()
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO stored_events VALUES (1, 'meter/x', 1, 'Unheard', '{}')")
    connection.close()
    with Metering.open(url) as metering:
        metering.catch_up()


def newer(path: Path) -> None:
    """A ledger whose schema is a later one."""
    Metering.open(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    Metering.open(f"sqlite:///{path}")


def another(path: Path) -> None:
    """A file of text."""
    path.write_text("identifier,timestamp\n" * 100)
    Metering.open(f"sqlite:///{path}")


def sealed(path: Path) -> Path:
    """A file of seals beside a ledger of one event, which was cancelled since."""
    seals = path.with_suffix(".seals")
    with Metering.open(f"sqlite:///{path}") as metering:
        metering.configure_meter("calls", formula="count", customer_key="customer")
        metering.record("calls", {"customer": "acme"}, identifier="req-1")
        metering.seal(seals)
        metering.cancel("calls", "req-1")
    return seals


def with_sealed(path: Path, call: Callable[[Metering, Path], object]) -> None:
    """What is asked of a ledger with seals."""
    seals = sealed(path)
    with Metering.open(f"sqlite:///{path}") as metering:
        call(metering, seals)


def rewritten(path: Path) -> None:
    """A ledger that an intruder changed after it was sealed."""
    seals = sealed(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER stored_events_are_never_deleted")
        connection.execute("DELETE FROM stored_events WHERE position = 2")
    connection.close()
    with Metering.open(f"sqlite:///{path}") as metering:
        metering.seal(seals)


def damaged(path: Path) -> None:
    """A ledger in which the event that configured a meter is no JSON any more."""
    with Metering.open(f"sqlite:///{path}", clock=Clock(NOW)) as metering:
        metering.configure_meter("calls", customer_key="customer")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER stored_events_are_never_changed")
        connection.execute("UPDATE stored_events SET state = x'00'")
        connection.commit()
    with Metering.open(f"sqlite:///{path}") as metering:
        metering.meter("calls")


def moved_on(path: Path) -> None:
    """A ledger in which a candidate was built before the rules of another meter were changed."""
    with Metering.open(f"sqlite:///{path}", clock=Clock(NOW)) as metering:
        metering.configure_meter("calls", customer_key="customer")
        metering.configure_meter("jobs", formula="count", customer_key="customer")
        candidate = metering.rebuild(rules={"calls": {"formula": "last"}}).number
        metering.change_rules("jobs", {"event_time_window": "day"}, reason="a test")
        metering.promote(candidate, reason="a test")


FILES: list[tuple[str, str | None, Callable[[Path], object]]] = [
    ("invalid_ledger_url", "url", lambda path: Metering.open(f"mysql:///{path}")),
    ("invalid_ledger_url", "url", lambda path: Metering.open(str(path))),
    ("invalid_ledger_url", "url", lambda path: Metering.open(f"sqlite:///{path.parent}")),
    ("ledger_unavailable", "url", lambda path: Metering.open(f"sqlite:///{path.parent}/missing/usage.db")),
    ("not_a_ledger", "url", another),
    ("newer_schema", "url", newer),
    ("projection_stopped", "position", stopped),
    ("ledger_damaged", "position", damaged),
    ("rules_moved_on", "generation", moved_on),
    ("invalid_seal_file", "file", lambda path: with_sealed(path, lambda metering, _: metering.verify_seals(path))),
    ("invalid_seal_file", "file", lambda path: with_sealed(path, lambda metering, _: metering.seal(path.parent))),
    ("ledger_differs_from_seals", "position", rewritten),
    (
        "not_sealed",
        "identifier",
        lambda path: with_sealed(path, lambda metering, seals: metering.prove("req-1", seals)),
    ),
    ("not_sealed", "earlier", lambda path: with_sealed(path, lambda metering, at: metering.prove_growth(at, 1))),
    ("invalid_proof", "proof", lambda path: check_proof(b"", "", seals=path)),
    ("invalid_proof", "proof", lambda path: check_growth("", seals=path)),
    ("invalid_key", "key", lambda path: with_sealed(path, lambda metering, seals: metering.seal(seals, key=path))),
    ("invalid_key", "key", lambda path: with_sealed(path, lambda metering, at: metering.verify_seals(at, key="a"))),
    ("parameter_invalid", "name", lambda path: with_sealed(path, lambda metering, at: metering.seal(at, name="a b"))),
]


@pytest.mark.parametrize(("code", "field", "call"), FILES)
def test_a_file_is_refused_by_its_code(tmp_path: Path, code: str, field: str, call: Callable[[Path], object]) -> None:
    """What is wrong with a ledger's place or file is told by a code, with the field."""
    with pytest.raises(TallybookError) as refused:
        call(tmp_path / "usage.db")
    assert (refused.value.code, refused.value.field) == (code, field)


def _kinds(of: type[TallybookError] = TallybookError) -> Iterator[type[TallybookError]]:
    for kind in of.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from _kinds(kind)


def test_every_error_class_is_in_a_table_here() -> None:
    """A new error class needs a row above. A file to import is refused by the command line alone; what a user of a
    database may not do, by the database."""
    shown = {code for code, _, _ in REFUSALS} | {code for code, _, _ in FILES}
    assert shown | {"invalid_import_file", "not_permitted"} == {kind.code for kind in _kinds()}


def test_codes_are_each_of_one_class() -> None:
    """A code tells which class it is, and each class has one of its own."""
    codes = [kind.code for kind in _kinds()]
    assert len(set(codes)) == len(codes)
    assert TallybookError.code not in codes
