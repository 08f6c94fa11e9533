"""Cancellations: a cancelled event counts as if it had never been recorded, until the cancellation is revoked."""

import pytest

from ..notation import YEAR, Ledger, moment


def test_a_cancelled_event_counts_no_more(ledger: Ledger) -> None:
    """A cancellation removes the event from sum, count and last."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        10:45  acme calls  4  id=b
        cancel b
    """)
    ledger.then(total="acme calls 10", count=1, last="10")
    assert ledger.explanation("acme calls") == ["a counted", "b cancelled"]


def test_a_cancelled_meter_event_restores_the_one_it_superseded(ledger: Ledger) -> None:
    """In an hour window, the previous meter event counts again after the newest is cancelled."""
    ledger.given("""
        meter  seats  last per hour
        10:05  acme seats 10  id=a
        10:45  acme seats  4  id=b
        cancel b
    """)
    ledger.then(total="acme seats 10")


def test_a_cancellation_restores_the_previous_arrival_not_the_previous_timestamp(ledger: Ledger) -> None:
    """A cancellation restores the newest arrival among the other events."""
    ledger.given("""
        meter  seats  last per day
        10:50  acme seats 1  id=a
        10:10  acme seats 2  id=b
        10:30  acme seats 3  id=c
        cancel c
    """)
    ledger.then(total="acme seats 2", count=1)
    assert ledger.explanation("acme seats") == ["b counted", "c cancelled", "a superseded by b"]


def test_cancelling_a_superseded_meter_event_changes_no_total(ledger: Ledger) -> None:
    """A superseded event can be cancelled too; after that it can't be restored."""
    ledger.given("""
        meter  seats  sum per hour
        10:05  acme seats 10  id=a
        10:45  acme seats  4  id=b
        cancel a
    """)
    ledger.then(total="acme seats 4", count=1)
    ledger.given("cancel b").then(total="acme seats 0", count=0, last="None")


def test_cancelling_twice_is_one_cancellation(ledger: Ledger) -> None:
    """The second call returns the first cancellation, with its reason and time, and writes nothing."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        cancel a  at=10:06  reason=error  by=ops
    """)
    head = ledger.position()
    ledger.clock.now = ledger.clock.now.replace(hour=11)
    second_cancellation = ledger.metering.cancel("calls", "a", reason="another", by="somebody")
    assert (second_cancellation.reason, second_cancellation.by, f"{second_cancellation.cancelled_at:%H:%M}") == (
        "error",
        "ops",
        "10:06",
    )
    assert ledger.position() == head
    ledger.then(total="acme calls 0")


def test_a_cancelled_event_can_be_cancelled_again_at_any_time(ledger: Ledger) -> None:
    """The cancel window applies to the first call only: a retry years later returns the first cancellation."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        cancel a
        cancel a  at=2030-01-01T00:00
    """)


def test_a_cancellation_names_the_meter_of_its_event(ledger: Ledger) -> None:
    """An event of another meter can't be cancelled and stays counted."""
    ledger.given("""
        meter  calls  sum
        meter  seats  sum
        10:05  acme calls 10  id=a
    """)
    ledger.when("cancel a  of=seats").outcomes_are("invalid_cancel_configuration")
    ledger.then(total="acme calls 10")


def test_a_cancellation_within_24_hours_of_recording(ledger: Ledger) -> None:
    """The cancel window starts at recorded_at, not at occurred_at: a late meter event can be cancelled."""
    ledger.given("""
        meter  calls  sum
        05T10:00  acme calls 10  id=a  recorded=10:00
        cancel a  at=11T10:00
    """)
    ledger.then(total="acme calls 0")


def test_a_cancellation_after_24_hours_is_rejected(ledger: Ledger) -> None:
    """24 hours and one microsecond after its recording, the event stays counted."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 10  id=a
    """)
    ledger.when("cancel a  at=11T10:00:00.000001").outcomes_are("invalid_cancel_configuration")
    ledger.then(total="acme calls 10")


def test_an_unrecorded_event_cannot_be_cancelled(ledger: Ledger) -> None:
    """An unknown identifier, an unknown meter, and the identifier of a rejected meter event."""
    ledger.given("meter  calls  sum")
    ledger.when("""
        10:05  acme calls ten  id=rejected
        cancel rejected  of=calls
        cancel nobody   of=calls
        cancel nobody   of=nothing
    """).outcomes_are(
        "payload_invalid_value", "invalid_cancel_configuration", "invalid_cancel_configuration", "no_meter"
    )


def test_a_cancellation_and_a_new_meter_event_correct_a_total(ledger: Ledger) -> None:
    """A wrong meter event is corrected by cancelling it and recording another identifier."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 1000  id=wrong
        cancel wrong
        10:05  acme calls 10    id=right
    """)
    ledger.then(total="acme calls 10", count=1)


def test_a_cancellation_does_not_affect_other_customers_and_hours(ledger: Ledger) -> None:
    """Recomputing a bucket leaves its other usage unchanged."""
    ledger.given("""
        meter  calls  sum  by region
        10:05  acme calls 1   id=a  region=eu
        10:06  acme calls 2   id=b  region=us
        10:07  beta calls 4   id=c  region=eu
        11:05  acme calls 8   id=d  region=eu
        11T10:05  acme calls 16  id=e  region=eu
    """)
    ledger.then(total="* calls 31")
    ledger.given("cancel a").then(total="* calls 30", count=4)
    ledger.then(total="acme calls 2", between="10:00 11:00").then(total="acme calls 8", between="11:00 12:00")


def test_a_revoked_cancellation_counts_as_if_it_had_never_been_made(ledger: Ledger) -> None:
    """The event counts again, in totals as of then it is still cancelled, and its history stays visible."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        10:06  acme calls  4  id=b
        cancel b  at=10:10  reason=test  by=ops
        revoke b  at=10:20  reason=mistake  by=finance
    """)
    ledger.then(total="acme calls 14", count=2, last="4")
    assert ledger.explanation("acme calls") == ["a counted", "b counted"]
    for as_of, value in (("10:09", 14), ("10:10", 10), ("10:19", 10), ("10:20", 14), (3, 14), (4, 10), (5, 14)):
        ledger.then(total=f"acme calls {value}", as_of=as_of)
    event = ledger.metering.event("b")
    assert [
        (revoked.reason, revoked.by, revoked.revocation_reason, revoked.revoked_by) for revoked in event.revoked
    ] == [("test", "ops", "mistake", "finance")]
    assert (event.cancelled_at, event.reason, event.by) == (None, None, None)
    between = ledger.metering.event("b", as_of=4)
    assert (between.verdict, between.reason, between.revoked) == ("cancelled", "test", ())


@pytest.mark.parametrize("window", ["", "per hour", "per day"])
def test_cancellations_and_revocations_alternate_any_number_of_times(ledger: Ledger, window: str) -> None:
    """Each point in the ledger has the total of its state, also after the read models are folded page by page."""
    ledger.given(f"""
        meter  seats  last {window}
        10:05  acme seats 10  id=a
        10:45  acme seats  4  id=b
    """)
    expected = {3: 4}
    for number in range(4):
        ledger.given("revoke b" if number % 2 else "cancel b")
        expected[4 + number] = 4 if number % 2 else 10
        ledger.then(total=f"acme seats {expected[4 + number]}")
    for position, value in expected.items():
        ledger.then(total=f"acme seats {value}", as_of=position)
    assert len(ledger.metering.event("b").revoked) == 2
    assert ledger.metering.verify().is_equal
    replayed = ledger.metering.replay_totals("seats", *(moment(text) for text in YEAR.split()))
    assert [total.value for total in replayed] == [4]


def test_a_revocation_supersedes_again_within_its_window(ledger: Ledger) -> None:
    """In an hour window the revoked event is the newest arrival again."""
    ledger.given("""
        meter  seats  last per hour
        10:05  acme seats 10  id=a
        10:45  acme seats  4  id=b
        cancel b
        revoke b
    """)
    assert ledger.explanation("acme seats") == ["a superseded by b", "b counted"]


def test_revoking_twice_is_one_revocation(ledger: Ledger) -> None:
    """The second call returns the first revocation and writes nothing."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        cancel a  at=10:06
        revoke a  at=10:07  reason=mistake  by=ops
    """)
    head = ledger.position()
    second = ledger.metering.revoke_cancel("calls", "a", reason="another")
    assert (second.reason, second.by, f"{second.revoked_at:%H:%M}") == ("mistake", "ops", "10:07")
    assert ledger.position() == head


def test_a_cancellation_can_be_revoked_within_the_cancel_window(ledger: Ledger) -> None:
    """24 hours from the cancellation, whenever the event was recorded; not a microsecond later."""
    ledger.given("""
        meter  calls  sum
        10:00  acme calls 10  id=a
        10:00  acme calls  5  id=b
        cancel a  at=11T09:00
        cancel b
    """)
    ledger.when("""
        revoke a  at=12T09:00
        revoke b  at=12T09:00:00.000001
        cancel a
    """).outcomes_are("revoked", "invalid_cancel_configuration", "invalid_cancel_configuration")
    ledger.then(total="acme calls 10")


def test_only_a_cancelled_event_of_the_meter_can_be_counted_again(ledger: Ledger) -> None:
    """Not one that was never cancelled, of another meter, or never recorded."""
    ledger.given("""
        meter  calls  sum
        meter  seats  sum
        10:05  acme calls 10  id=a
        10:05  acme calls 10  id=b
        cancel b
    """)
    ledger.when("""
        revoke a
        revoke b  of=seats
        revoke c  of=calls
        revoke c  of=nothing
    """).outcomes_are(*["invalid_cancel_configuration"] * 3, "no_meter")
    ledger.then(total="acme calls 10")


def test_a_revocation_never_changes_a_closed_period(ledger: Ledger) -> None:
    """It is an adjustment: of an event that was cancelled at the closing, or that was cancelled since."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        10:06  acme calls  4  id=b
        cancel b
        close  acme calls 10 11  at=11T01:00
        cancel a
        revoke b
    """)
    assert ledger.adjustments("calls") == ["acme 10: -6, a cancelled -10, b counted +4"]
    ledger.given("revoke a")
    assert ledger.adjustments("calls") == ["acme 10: +4, b counted +4"]
    assert ledger.closed_periods("calls") == ["acme 10: 10"]
