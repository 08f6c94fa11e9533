"""Rejected events are grouped by window and meter, each in exactly one report."""

from tallybook.application.interfaces.http.ledgers import ServedLedger
from tallybook.application.interfaces.http.webhooks.error_reports import create_error_reports
from tallybook.application.interfaces.http.webhooks.events import ERROR_REPORT, NO_METER_FOUND

from tests.http.webhooks.ledgers import (
    SETTINGS,
    InterruptedLedger,
    advance_clock,
    error_count,
    record_rejected,
    sample_identifiers,
    thin_events,
)


def create_reports(served_ledger: ServedLedger) -> int:
    """Create the reports that are due."""
    return create_error_reports(served_ledger, [], SETTINGS)


def test_a_window_is_reported_after_it_ends(served_ledger: ServedLedger) -> None:
    """Not earlier; later events are in another report."""
    advance_clock(served_ledger, seconds=3)
    record_rejected(served_ledger, "a")
    advance_clock(served_ledger, seconds=6.9)
    record_rejected(served_ledger, "b")
    assert create_reports(served_ledger) == 0
    advance_clock(served_ledger, seconds=0.1)
    record_rejected(served_ledger, "c")
    assert create_reports(served_ledger) == 2
    assert create_reports(served_ledger) == 0
    advance_clock(served_ledger, seconds=10)
    assert create_reports(served_ledger) == 1
    first, second = thin_events(served_ledger)
    assert (sample_identifiers(first), sample_identifiers(second)) == (["a", "b"], ["c"])
    assert first.data is not None
    assert (first.data["validation_start"], first.data["validation_end"]) == (
        "2026-01-01T00:00:00.000Z",
        "2026-01-01T00:00:10.000Z",
    )


def test_each_meter_has_a_report_and_unknown_meters_share_one(served_ledger: ServedLedger) -> None:
    """For each window."""
    served_ledger.metering.meters.configure("seats", customer_key="customer")
    record_rejected(served_ledger, "a")
    record_rejected(served_ledger, "b", event_name="seats")
    record_rejected(served_ledger, "c", event_name="nothing")
    record_rejected(served_ledger, "d", event_name="nothing else")
    record_rejected(served_ledger, "e", event_name="odd\0")
    advance_clock(served_ledger, seconds=10)
    record_rejected(served_ledger, "f")
    advance_clock(served_ledger, seconds=10)
    assert create_reports(served_ledger) == 6
    report_samples = sorted((event.type, sample_identifiers(event)) for event in thin_events(served_ledger))
    assert report_samples == [
        (ERROR_REPORT, ["a"]),
        (ERROR_REPORT, ["b"]),
        (ERROR_REPORT, ["f"]),
        (NO_METER_FOUND, ["c", "d", "e"]),
    ]


def test_a_report_has_a_few_samples_of_each_code(served_ledger: ServedLedger) -> None:
    """With the total number."""
    record_rejected(served_ledger, *(f"a{number}" for number in range(9)))
    record_rejected(served_ledger, *(f"b{number}" for number in range(7)), value="1" * 16)
    advance_clock(served_ledger, seconds=10)
    create_reports(served_ledger)
    (event,) = thin_events(served_ledger)
    assert event.data is not None
    assert event.data["developer_message_summary"] == "There are 16 invalid events"
    errors = event.data["reason"]["error_types"]
    assert [
        (error_type["code"], error_type["error_count"], len(error_type["sample_errors"])) for error_type in errors
    ] == [
        ("meter_event_invalid_value", 9, 5),
        ("meter_event_value_too_many_digits", 7, 5),
    ]


def test_concurrent_reporters_report_each_event_once(served_ledger: ServedLedger) -> None:
    """The other process, which sees later events, is first: this one stores nothing and continues afterwards."""
    record_rejected(served_ledger, "a")
    advance_clock(served_ledger, seconds=10)
    slow, fast = InterruptedLedger(served_ledger), served_ledger
    slow.before_change.append(
        lambda: (record_rejected(fast, "b"), advance_clock(fast, seconds=10), create_reports(fast))
    )
    assert create_reports(slow.served_ledger) == 0
    record_rejected(fast, "c")
    advance_clock(fast, seconds=10)
    assert create_reports(slow.served_ledger) == 1
    assert [sample_identifiers(event) for event in thin_events(served_ledger)] == [["a"], ["b"], ["c"]]


def test_a_reporter_resuming_late_reports_nothing_twice(served_ledger: ServedLedger) -> None:
    """After any number of reports by other processes."""
    record_rejected(served_ledger, "a")
    advance_clock(served_ledger, seconds=10)

    def create_concurrently() -> None:
        for name in ("b", "c", "d"):
            assert create_reports(served_ledger) == 1
            record_rejected(served_ledger, name)
            advance_clock(served_ledger, seconds=10)

    slow = InterruptedLedger(served_ledger)
    slow.before_change.append(create_concurrently)
    assert create_reports(slow.served_ledger) == 0
    assert create_reports(slow.served_ledger) == 1
    assert [sample_identifiers(event) for event in thin_events(served_ledger)] == [["a"], ["b"], ["c"], ["d"]]


def test_more_than_one_batch_is_reported_in_batches(served_ledger: ServedLedger) -> None:
    """Each event once."""
    for start in range(0, 6_000, 1_000):
        identifiers = (f"a{number}" for number in range(start, start + 1_000))
        record_rejected(served_ledger, *identifiers, key_id=f"key {start}")  # 1,000 are stored for each key
    advance_clock(served_ledger, seconds=10)
    assert [create_reports(served_ledger), create_reports(served_ledger), create_reports(served_ledger)] == [
        5_000,
        1_000,
        0,
    ]
    assert [error_count(event) for event in thin_events(served_ledger)] == [5_000, 1_000]
