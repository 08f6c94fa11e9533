"""Derived meters: several meters count one stream of events, each by rules of its own."""

import pytest
from tallybook.application import Verdict
from tallybook.domain.errors import (
    IncompatibleRules,
    InvalidParameter,
    MeterAlreadyExists,
    MeterEventNotFound,
    MeterIsDerived,
    MeterNotFound,
)

from ..notation import Ledger, moment

NOVEMBER = moment("01"), moment("30")


@pytest.fixture
def counted(ledger: Ledger) -> Ledger:
    """A ledger with a stream of requests, counted by four meters; one of them was configured after the events."""
    return ledger.given("""
        meter  requests  count
        meter  in        sum           from requests
        10:05  acme requests -  id=a  in=10  out=1  user=ann
        10:15  acme requests -  id=b  in=20         user=bob
        10:25  acme requests -  id=c  in=30  out=3  user=ann
        10:35  zeta requests -  id=d  in=40  out=4  user=zoe
        meter  out       sum           from requests  where out
        meter  users     unique_count  from requests  value=user
    """)


def test_each_derived_meter_counts_all_events_of_its_source(counted: Ledger) -> None:
    """Also those recorded before it was configured, and later ones."""
    for total in ("requests 3", "in 60", "out 4", "users 2"):
        counted.then(total=f"acme {total}")
    counted.given("10:45  acme requests -  id=e  in=5  out=5  user=eve")
    for total in ("requests 4", "in 65", "out 9", "users 3"):
        counted.then(total=f"acme {total}")
    assert counted.totals("out") == ["acme 9", "zeta 4"]
    replayed = counted.metering.replay_totals("out", *NOVEMBER)
    assert [(total.customer, total.value) for total in replayed] == [("acme", 9), ("zeta", 4)]
    assert counted.metering.verify().is_equal


def test_a_rebuild_from_nothing_counts_the_same(counted: Ledger) -> None:
    """The rebuilt generation has no difference from the live one."""
    rebuilt = counted.metering.generations.rebuild()
    assert counted.metering.generations.diff(rebuilt.number).differences == ()
    counted.metering.generations.promote(rebuilt.number)
    counted.then(total="acme users 2")
    assert counted.metering.verify().is_equal


def test_a_cancelled_event_counts_for_no_meter(counted: Ledger) -> None:
    """It is cancelled under the name that it was recorded under."""
    counted.when("""
        cancel c  of=out
        cancel c
    """).outcomes_are("invalid_cancel_configuration", "cancelled")
    for total in ("requests 2", "in 30", "out 1", "users 2"):
        counted.then(total=f"acme {total}")
    assert counted.explanation("acme out") == ["a counted", "b filtered", "c cancelled"]


def test_events_have_verdicts_under_the_rules_of_each_meter(counted: Ledger) -> None:
    """They are listed under the name of each meter, with the name that they were recorded under."""
    events = counted.metering.events("out", customer="acme")
    assert [(event.event_name, event.identifier, event.verdict, event.value) for event in events] == [
        ("requests", "a", Verdict.COUNTED, 1),
        ("requests", "b", Verdict.FILTERED, None),
        ("requests", "c", Verdict.COUNTED, 3),
    ]
    assert counted.metering.events("out", customer="acme", starting_after="a") == events[1:]
    assert counted.metering.event("b").verdict is Verdict.COUNTED
    assert counted.metering.event("b", event_name="out") == events[1]
    assert counted.contributions("acme users") == ["a 1", "b 1", "c 0"]
    counted.given("meter  other  sum")
    with pytest.raises(MeterEventNotFound, match="recorded under 'requests', whose events the meter 'other' does not"):
        counted.metering.event("b", event_name="other")


def test_recording_under_the_name_of_a_derived_meter_is_rejected(counted: Ledger) -> None:
    """Its events are those of its source."""
    with pytest.raises(MeterIsDerived, match="counts the events of 'requests'; record them under that name") as error:
        counted.metering.record("out", {"customer": "acme", "out": "1"})
    assert (error.value.code, error.value.field, error.value.value) == ("derived_meter", "event_name", "out")


def test_an_event_that_a_derived_meter_can_not_read_is_rejected(counted: Ledger) -> None:
    """Nothing is stored that one of the meters could not count."""
    counted.when("""
        11:05  acme requests -  id=e             user=ann
        11:05  acme requests -  id=e  in=many    user=ann
        11:05  acme requests -  id=e  in=1
        11:05  acme requests -  id=e  in=1       user=ann  out=many
        11:05  acme requests -  id=e  in=1234567890123456  user=ann
        11:05  acme requests -  id=e  in=1       user=ann
        11:05  acme requests -  id=e  in=1       user=ann
    """).outcomes_are(
        "payload_no_value_defined", "payload_invalid_value", "payload_no_value_defined", "payload_invalid_value",
        "meter_event_value_too_many_digits", "accepted", "duplicate",
    )  # fmt: skip
    (receipt,) = counted.metering.record_many([{"event_name": "requests", "payload": {"customer": "acme", "in": "1"}}])
    assert receipt.error is not None
    assert receipt.error.message.startswith("The derived meter 'users' can't count the event: ")


def test_a_resubmitted_event_is_a_duplicate_though_a_derived_meter_would_reject_it(ledger: Ledger) -> None:
    """Its rules were others when the event was recorded, or apply to usage of another time."""
    ledger.given("""
        meter  requests  count
        meter  in        sum  from requests
        10:05  acme requests -  id=a  in=10
    """)
    ledger.metering.rules.change("in", {"value_key": "size"}, reason="renamed", effective_from=moment("10T10:10"))
    ledger.when("""
        10:05  acme requests -  id=a  in=10
        10:15  acme requests -  id=b  in=10
        10:15  acme requests -  id=b  size=10
    """).outcomes_are("duplicate", "payload_no_value_defined", "accepted")


def test_a_derived_meter_that_can_not_read_a_recorded_event_is_not_configured(counted: Ledger) -> None:
    """The error lists the events, and nothing is changed."""
    head, generations = counted.position(), counted.metering.generations.list()
    with pytest.raises(IncompatibleRules) as error:
        counted.given("meter  cost  sum  from requests  value=out")
    assert [(event.identifier, event.event_name, event.code) for event in error.value.events] == [
        ("b", "cost", "payload_no_value_defined")
    ]
    assert (counted.position(), counted.metering.generations.list()) == (head, generations)
    with pytest.raises(MeterNotFound):
        counted.metering.meters.get("cost")
    assert counted.when("10:45  acme requests -  in=5  user=eve").outcomes == ["accepted"]


def test_rules_of_a_derived_meter_change_like_those_of_any_meter(counted: Ledger) -> None:
    """For all of the past or from a time on, and each change has its difference first."""
    counted.given("change in  max")
    counted.then(total="acme in 30")
    counted.metering.rules.change("in", {"formula": "count"}, reason="n", effective_from=moment("10T10:20"))
    counted.then(total="acme in 1", between="10T10:20 11")
    counted.then(total="acme in 20", between="10 10T10:20")
    counted.then(total="acme requests 3")
    assert [revision.revision for revision in counted.metering.meters.history("in")] == [1, 2, 3]
    assert counted.metering.verify().is_equal
    with pytest.raises(IncompatibleRules):
        counted.given("change in  sum  value=out")


def test_windows_dimensions_and_closed_periods_of_a_derived_meter(ledger: Ledger) -> None:
    """They are its own: the source counts each event, the derived meter the newest of each day and region."""
    ledger.given("""
        meter  requests  count
        10:05  acme requests -  id=a  seats=10  region=eu
        10:15  acme requests -  id=b  seats=20  region=us
        10:25  acme requests -  id=c  seats=30  region=eu
        meter  seats  sum per day  by region  from requests
    """)
    assert ledger.groups("acme seats by region") == ["eu 30", "us 20"]
    assert ledger.explanation("acme seats") == ["a superseded by c", "b counted", "c counted"]
    ledger.given("close acme seats 10 11  at=11T02:00")
    assert ledger.when("close acme requests 10 11").outcomes == ["closed 3"]
    ledger.given("cancel c")
    assert ledger.adjustments("seats") == ["acme 10: -20, a counted +10, c cancelled -30"]
    assert ledger.adjustments("requests") == ["acme 10: -1, c cancelled -1"]
    assert ledger.metering.verify().is_equal


def test_as_of_an_earlier_position_a_derived_meter_does_not_exist(counted: Ledger) -> None:
    """As of a later one, it counts what was known then."""
    changes = counted.metering.meters.changes()
    configured = next(change.position for change in changes if change.meter.event_name == "out")
    counted.given("""
        10:45  acme requests -  id=e  in=5  out=5  user=eve
        cancel a
    """)
    with pytest.raises(MeterNotFound, match="did not exist then; it was configured at 2026-11-10T10:35:00Z"):
        counted.then(total="acme out 0", as_of=configured - 1)
    counted.then(total="acme out 4", as_of=configured)
    counted.then(total="acme out 9", as_of=configured + 4)
    counted.then(total="acme out 8")


def test_a_derived_meter_has_one_source_for_ever(counted: Ledger) -> None:
    """Names are shared with other meters, and a derived meter is no source."""
    meters = counted.metering.meters
    assert (meters.get("out").source, meters.get("requests").source) == ("requests", None)
    assert meters.get("requests").derived_meters == ("in", "out", "users")
    head = counted.position()
    counted.given("meter  out  sum  from requests  where out")
    assert counted.position() == head
    for line, error_class in (
        ("meter  out   sum  where out", MeterAlreadyExists),
        ("meter  requests  count  from in", MeterAlreadyExists),
        ("meter  out   max  from requests  where out", MeterAlreadyExists),
        ("meter  more  sum  from out", MeterIsDerived),
        ("meter  more  sum  from nothing", MeterNotFound),
    ):
        with pytest.raises(error_class) as error:
            counted.given(line)
        assert error.value.field == ("source" if "more" in line else "event_name")
    assert counted.position() == head


def test_deactivation(counted: Ledger) -> None:
    """A derived meter counts what its source accepts, so only the source can be deactivated."""
    counted.when("deactivate out").outcomes_are("derived_meter")
    counted.given("deactivate requests")
    counted.when("10:45  acme requests -  in=5  user=eve").outcomes_are("archived_meter")
    counted.then(total="acme out 4")
    counted.given("reactivate requests")
    counted.metering.rules.change(
        "users", {"filter": {"key": "customer", "exists": False}}, reason="ended", effective_from=moment("10T10:40")
    )
    counted.when("10:45  acme requests -  in=5").outcomes_are("accepted")
    counted.then(total="acme users 2")


def test_a_generation_without_a_derived_meter_is_not_promoted(counted: Ledger) -> None:
    """It lacks the usage of the derived meter."""
    first = counted.metering.generations.list()[0]
    with pytest.raises(Exception, match="was built before it was configured") as error:
        counted.metering.generations.promote(first.number, reason="back")
    assert error.value.code == "rules_conflict"  # type: ignore[attr-defined]
    difference = counted.metering.generations.diff(first.number)
    assert [meter.event_name for meter in difference.meters] == ["requests"]


def test_the_number_of_derived_meters_is_limited(counted: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each event is counted for all of them."""
    monkeypatch.setattr("tallybook.domain.meter.MAX_DERIVED_METERS", 3)
    with pytest.raises(InvalidParameter, match="has 3 derived meters, the most there can be"):
        counted.given("meter  more  count  from requests")
