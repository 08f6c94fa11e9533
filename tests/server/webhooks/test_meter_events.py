"""Events of meters are made by following the ledger: each once, whoever follows."""

from tallybook.application.server.desk import Desk
from tallybook.application.server.webhooks.event_types import SNAPSHOTS, THIN
from tallybook.application.server.webhooks.events import Event, EventV2, read
from tallybook.application.server.webhooks.meter_changes import AT_A_TIME, MeterFollower
from tallybook.application.server.webhooks.stored_events import newest

from tests.server.webhooks.desks import Interrupted, forward


def events(desk: Desk) -> list[Event | EventV2]:
    """All snapshot events, oldest first."""
    return [read(row) for row in reversed(newest(desk.keeper, SNAPSHOTS, 10_000)[0])]


def follow(desk: Desk) -> None:
    """Follow the ledger to its end."""
    follower = MeterFollower(desk)
    while follower.follow([]):
        pass


def test_each_change_is_an_event_in_both_forms(desk: Desk) -> None:
    """However often it is followed, and whoever changed what."""
    desk.metering.rename_meter("tokens", "Tokens")
    desk.metering.change_rules("tokens", {"formula": "count"}, reason="tokens are counted")
    follow(desk)
    follow(desk)
    desk.metering.deactivate_meter("tokens")
    follow(desk)
    told = events(desk)
    assert [event.type.rpartition(".")[2] for event in told] == ["created", "updated", "updated", "deactivated"]
    assert len(newest(desk.keeper, THIN, 100)[0]) == 4
    last = told[2]
    assert isinstance(last, Event)
    assert last.data.previous_attributes == {"default_aggregation": {"formula": "sum"}, "revision": 1}


def test_what_is_older_than_events_are_readable_is_passed_over(desk: Desk) -> None:
    """A ledger that is served for the first time tells of its last 30 days."""
    forward(desk, days=31)
    desk.metering.rename_meter("tokens", "Tokens")
    follow(desk)
    assert [event.type for event in events(desk)] == ["billing.meter.updated"]


def test_two_that_follow_at_once_tell_each_change_once(desk: Desk) -> None:
    """The other one, which knows of what came later, was faster: this one does nothing, and goes on from there."""
    slow = Interrupted(desk)
    slow.before_change.append(lambda: (desk.metering.rename_meter("tokens", "Tokens"), follow(desk)))
    follower = MeterFollower(slow.desk)
    assert follower.follow([]) == 0
    desk.metering.deactivate_meter("tokens")
    assert follower.follow([]) == 1
    assert [event.type.rpartition(".")[2] for event in events(desk)] == ["created", "updated", "deactivated"]


def test_who_is_slow_never_leads_others_back(desk: Desk) -> None:
    """Also with what is too old to be told of."""
    forward(desk, days=31)
    slow = Interrupted(desk)
    slow.before_change.append(lambda: (desk.metering.rename_meter("tokens", "Tokens"), follow(desk)))
    MeterFollower(slow.desk).follow([])
    desk.metering.deactivate_meter("tokens")
    follow(desk)
    assert [event.type.rpartition(".")[2] for event in events(desk)] == ["updated", "deactivated"]


def test_many_changes_are_told_in_steps(desk: Desk) -> None:
    """In their order."""
    names = [f"Tokens {number}" for number in range(AT_A_TIME * 2)]
    for name in names:
        desk.metering.rename_meter("tokens", name)
    follow(desk)
    told = [event.data.object["display_name"] for event in events(desk) if isinstance(event, Event)]
    assert told == ["tokens", *names]
