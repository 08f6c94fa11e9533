"""What is stored today can be read for ever, and is what was stored before.

One file under `events/` for each version of each stored event: stream, version, topic and state, a line each. A file is
never changed and never deleted: ledgers hold such events.
"""

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from eventsourcing.persistence import StoredEvent
from tallybook.application.mapper import TOPICS, EventMapper, StoredRow, use_row
from tallybook.domain.errors import ProjectionStopped
from tallybook.projections.fold import fold
from tallybook.projections.rows import LedgerEvent
from tallybook.projections.stored_events import read_rows

from .examples import EXAMPLES, USE

EVENTS = Path(__file__).with_name("events")
TODAY = 1


def golden(topic: str, version: int = TODAY) -> StoredRow:
    """The row in the file of an event."""
    stream, stream_version, stored_topic, state = (EVENTS / f"{topic}-{version}.txt").read_bytes().splitlines()
    return stream.decode(), int(stream_version), stored_topic.decode(), state


def mapper() -> EventMapper:
    """The mapper as the ledger uses it: the models say how they are stored, so it needs no transcoder."""
    return EventMapper(cast(Any, None))


def test_every_stored_event_has_its_file_and_its_example() -> None:
    """A new event, or a new version of one, comes with a file; and every file is of an event that we know."""
    assert {file.name for file in EVENTS.iterdir()} == {f"{topic}-{TODAY}.txt" for topic in TOPICS}
    assert set(EXAMPLES) == set(TOPICS)


@pytest.mark.parametrize("topic", TOPICS)
def test_today_writes_the_bytes_of_the_file(topic: str) -> None:
    """Stream, version, topic and state are the same to the byte."""
    assert mapper().to_row(EXAMPLES[topic]) == golden(topic)


@pytest.mark.parametrize("topic", TOPICS)
def test_the_file_is_read_to_the_same_event(topic: str) -> None:
    """What was stored comes back as the event that was triggered, of the same class with the same fields."""
    event = mapper().to_domain_event(StoredEvent(*golden(topic)))
    assert type(event) is type(EXAMPLES[topic])
    assert event == EXAMPLES[topic]


@pytest.mark.parametrize("topic", TOPICS)
def test_state_is_compact_json_that_begins_with_when_it_was_recorded(topic: str) -> None:
    """A person can read it, and any JSON library too."""
    state = golden(topic)[3]
    assert msgspec.json.encode(msgspec.json.decode(state)) == state
    assert state.startswith(b'{"recorded_at":"2026-11-01T1')


def test_a_use_is_stored_the_same_on_the_fast_path() -> None:
    """Batches write uses without making an event of each; the row is that of the event."""
    assert use_row("event/req-1", USE) == mapper().to_row(EXAMPLES["UsageRecorded"]) == golden("UsageRecorded")


def test_the_fold_reads_every_stored_event() -> None:
    """One use and one cancel come out of the files in their order; the others neither count nor stop it."""
    ((usages, marks),) = _folded(
        "Configured",
        "Renamed",
        "UsageRecorded",
        "EventCancelled",
        "Deactivated",
        "Reactivated",
        "RulesChanged",
        "PeriodClosed",
        "PeriodReopened",
        "AccessKeyCreated",
        "AccessKeyRevoked",
    )
    assert (len(usages), len(marks)) == (1, 1)


@pytest.mark.parametrize("field", ["recorded_at", "event_name", "payload", "occurred_at", "recorded_position"])
def test_a_cancel_carries_what_the_fold_needs(field: str) -> None:
    """The fold decodes these fields of a stored cancel: without any of them it stops."""
    with pytest.raises(ProjectionStopped, match=field):
        _folded("Configured", "UsageRecorded", "EventCancelled", without=field)


def test_the_fold_needs_nothing_else_of_a_cancel() -> None:
    """Reason and who asked are for people: the fold comes to the same without them, and there is no other field."""
    needed = {"recorded_at", "event_name", "payload", "occurred_at", "recorded_position"}
    fields = {field.alias or name for name, field in TOPICS["EventCancelled"].model_fields.items() if not field.exclude}
    assert fields - needed == {"reason", "by"}
    whole = _folded("Configured", "UsageRecorded", "EventCancelled")
    for field in ("reason", "by"):
        assert _folded("Configured", "UsageRecorded", "EventCancelled", without=field) == whole


def _folded(*topics: str, without: str | None = None) -> list[tuple[dict[Any, Any], list[Any]]]:
    """The usages and cancels of each meter, with one field left out of the last event."""
    events: list[LedgerEvent] = []
    for position, topic in enumerate(topics, 1):
        fields: dict[str, object] = msgspec.json.decode(golden(topic)[3])
        if position == len(topics) and without is not None:
            del fields[without]
        events.append((position, topic, msgspec.json.encode(fields)))
    customers = {USE.payload["customer"]: 1}
    return [(dict(page.usages), list(page.marks)) for page in fold(read_rows(events), {}, customers, {})]
