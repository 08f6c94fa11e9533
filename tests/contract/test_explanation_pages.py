"""Pages of an explanation, and the comparison of a total as of two points, against whole explanations."""

from datetime import UTC, datetime, timedelta

import pytest
from tallybook.application import Explanation, InvalidAsOf, Metering, Verdict

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 20, tzinfo=UTC)


@pytest.fixture
def history(metering: Metering) -> Metering:
    """A ledger with hourly windows, two customers, and corrections after position 41."""
    metering.meters.configure("seats", formula="last", event_time_window="hour", customer_key="customer")
    metering.record_many(
        {
            "event_name": "seats", "identifier": f"e{number}", "timestamp": START + timedelta(minutes=40 * number),
            "payload": {"customer": ("acme", "zeta")[number % 3 == 0], "value": str(number)},
        }
        for number in range(40)
    )  # fmt: skip
    for identifier in ("e38", "e5", "e9"):
        metering.cancel("seats", identifier, reason="wrong", by="ops")
    metering.revoke_cancel("seats", "e9", reason="it was right")
    return metering


@pytest.mark.parametrize("customer", [None, "acme", "nobody"])
def test_pages_have_the_events_of_the_explanation(history: Metering, customer: str | None) -> None:
    """Total, digest and counts are those of all events; the contributions of all pages add up to the total."""
    whole = history.explain("seats", customer, START, END)
    for verdicts in (None, ["counted"], ["cancelled", "superseded"]):
        expected = [event for event in whole.events if verdicts is None or event.verdict in verdicts]
        found: list[object] = []
        for offset in (0, 7, 14, 21, 28, 35):
            page = history.explain_page("seats", customer, START, END, verdicts=verdicts, offset=offset, limit=7)
            assert page is not None
            assert (page.total, page.digest, page.revision) == (whole.total, whole.digest, whole.revision)
            assert (page.event_count, page.matching_count) == (len(whole.events), len(expected))
            found += page.events
        assert found == expected
        assert sum(page.verdict_counts.values()) == len(whole.events)


def test_a_page_of_too_many_events_is_none(history: Metering) -> None:
    """The caller decides what to show instead."""
    assert history.explain_page("seats", None, START, END, max_events=39) is None
    page = history.explain_page("seats", None, START, END, max_events=40, limit=0)
    assert page is not None
    assert page.corrections == (42, 43, 44, 45)


def test_a_comparison_has_the_events_whose_verdict_changed(history: Metering) -> None:
    """Cancelled ones, restored ones that they superseded, and none that was revoked; also before any was recorded."""
    after = history.explain("seats", None, START, END)
    now = _verdicts(after)
    for since in (0, 20, 41, 42, 44, 45):
        change = history.compare("seats", None, START, END, since=since)
        before = history.explain("seats", None, START, END, as_of=since)
        then = _verdicts(before)
        assert (change.before, change.after) == (before.total, after.total)
        assert change.difference == after.total.value - before.total.value
        changed = {event.identifier: (event.before, event.verdict) for event in change.events}
        assert changed == {name: (then.get(name), now[name]) for name in now if then.get(name) != now[name]}
        assert change.event_count == len(change.events)


def test_the_later_point_of_a_comparison_is_not_earlier(history: Metering) -> None:
    """The error names the argument."""
    with pytest.raises(InvalidAsOf):
        history.compare("seats", None, START, END, since=20, as_of=10)


def _verdicts(explanation: Explanation) -> dict[str, Verdict]:
    return {event.identifier: event.verdict for event in explanation.events}
