"""Refused events are gathered by windows of time and meters, each in exactly one report."""

from tallybook.application.server.desk import Desk
from tallybook.application.server.webhooks.error_reports import report_refused_events
from tallybook.application.server.webhooks.event_types import ERROR_REPORT, NO_METER_FOUND

from tests.server.webhooks.desks import SETTINGS, Interrupted, count, forward, refuse, samples, thin_events


def report(desk: Desk) -> int:
    """Report what is to be reported now."""
    return report_refused_events(desk, [], SETTINGS)


def test_a_window_is_reported_once_it_is_over(desk: Desk) -> None:
    """And not a moment earlier; what comes later is in another report."""
    forward(desk, seconds=3)
    refuse(desk, "a")
    forward(desk, seconds=6.9)
    refuse(desk, "b")
    assert report(desk) == 0
    forward(desk, seconds=0.1)
    refuse(desk, "c")
    assert report(desk) == 2
    assert report(desk) == 0
    forward(desk, seconds=10)
    assert report(desk) == 1
    first, second = thin_events(desk)
    assert (samples(first), samples(second)) == (["a", "b"], ["c"])
    assert first.data is not None
    assert (first.data["validation_start"], first.data["validation_end"]) == (
        "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:10.000Z",
    )  # fmt: skip


def test_each_meter_has_a_report_and_no_meter_has_one(desk: Desk) -> None:
    """Of each window."""
    desk.metering.configure_meter("seats", customer_key="customer")
    refuse(desk, "a")
    refuse(desk, "b", event_name="seats")
    refuse(desk, "c", event_name="nothing")
    refuse(desk, "d", event_name="nothing else")
    refuse(desk, "e", event_name="odd\0")
    forward(desk, seconds=10)
    refuse(desk, "f")
    forward(desk, seconds=10)
    assert report(desk) == 6
    told = sorted((event.type, samples(event)) for event in thin_events(desk))
    assert told == [
        (ERROR_REPORT, ["a"]), (ERROR_REPORT, ["b"]), (ERROR_REPORT, ["f"]), (NO_METER_FOUND, ["c", "d", "e"]),
    ]  # fmt: skip


def test_a_few_samples_of_each_code_are_told(desk: Desk) -> None:
    """With how many there were."""
    refuse(desk, *(f"a{number}" for number in range(9)))
    refuse(desk, *(f"b{number}" for number in range(7)), value="1" * 16)
    forward(desk, seconds=10)
    report(desk)
    (event,) = thin_events(desk)
    assert event.data is not None
    assert event.data["developer_message_summary"] == "There are 16 invalid events"
    errors = event.data["reason"]["error_types"]
    assert [(one["code"], one["error_count"], len(one["sample_errors"])) for one in errors] == [
        ("meter_event_invalid_value", 9, 5), ("meter_event_value_too_many_digits", 7, 5),
    ]  # fmt: skip


def test_two_that_report_at_once_report_each_event_once(desk: Desk) -> None:
    """The other one, which knows of events that came later, was faster: this one does nothing, and goes on then."""
    refuse(desk, "a")
    forward(desk, seconds=10)
    slow, fast = Interrupted(desk), desk
    slow.before_change.append(lambda: (refuse(fast, "b"), forward(fast, seconds=10), report(fast)))
    assert report(slow.desk) == 0
    refuse(fast, "c")
    forward(fast, seconds=10)
    assert report(slow.desk) == 1
    assert [samples(event) for event in thin_events(desk)] == [["a"], ["b"], ["c"]]


def test_who_was_away_for_long_reports_nothing_twice(desk: Desk) -> None:
    """However often others have reported meanwhile."""
    refuse(desk, "a")
    forward(desk, seconds=10)

    def others_report() -> None:
        for name in ("b", "c", "d"):
            assert report(desk) == 1
            refuse(desk, name)
            forward(desk, seconds=10)

    slow = Interrupted(desk)
    slow.before_change.append(others_report)
    assert report(slow.desk) == 0
    assert report(slow.desk) == 1
    assert [samples(event) for event in thin_events(desk)] == [["a"], ["b"], ["c"], ["d"]]


def test_more_than_one_step_takes_are_reported_in_steps(desk: Desk) -> None:
    """All of them, each once."""
    for start in range(0, 6_000, 1_000):
        refuse(desk, *(f"a{number}" for number in range(start, start + 1_000)))
    forward(desk, seconds=10)
    assert [report(desk), report(desk), report(desk)] == [5_000, 1_000, 0]
    assert [count(event) for event in thin_events(desk)] == [5_000, 1_000]
