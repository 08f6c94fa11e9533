"""Stored events can be read forever, and present code writes the same bytes.

One file under `events/` for each version of each stored event, and for variants with fields that were added later:
stream, version, topic and state, a line each. A file is never changed and never deleted: ledgers hold such events.
"""

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from eventsourcing.persistence import StoredEvent
from tallybook.application.ledger.mapper import TOPICS, EventMapper, meter_event_rows
from tallybook.application.storage.ports import EventRow
from tallybook.domain.errors import ProjectionStopped
from tallybook.projections.fold import fold_page
from tallybook.projections.models import LedgerEvent
from tallybook.projections.stored_events import EventChunk, decode_rows

from .examples import AUTHOR, EVENT_DATA, EXAMPLES, EXAMPLES_WITH_AUTHOR, VARIANTS

EVENTS = Path(__file__).with_name("events")
CURRENT_VERSION = 1
FILES = (
    {f"{topic}-{CURRENT_VERSION}": event for topic, event in EXAMPLES.items()}
    | {f"{topic}-{CURRENT_VERSION}-author": event for topic, event in EXAMPLES_WITH_AUTHOR.items()}
    | {f"{type(event).__name__}-{CURRENT_VERSION}-{variant}": event for variant, event in VARIANTS.items()}
)
"""The example of each golden file."""


def golden(topic: str) -> EventRow:
    """Return the row in the golden file of an event."""
    return golden_row(f"{topic}-{CURRENT_VERSION}")


def golden_row(file: str) -> EventRow:
    """Return the row in a golden file."""
    stream, stream_version, stored_topic, state = (EVENTS / f"{file}.txt").read_bytes().splitlines()
    return stream.decode(), int(stream_version), stored_topic.decode(), state


def mapper() -> EventMapper:
    """Return a mapper as the ledger uses it; it needs no transcoder."""
    return EventMapper(cast(Any, None))


def test_every_stored_event_has_its_file_and_its_example() -> None:
    """A new event or version needs a file; every file belongs to a known event."""
    assert {file.stem for file in EVENTS.iterdir()} == set(FILES)
    assert set(EXAMPLES) == set(TOPICS)


@pytest.mark.parametrize("file", FILES)
def test_current_code_writes_the_bytes_of_the_file(file: str) -> None:
    """Stream, version, topic and state are equal byte for byte."""
    assert mapper().to_row(FILES[file]) == golden_row(file)


@pytest.mark.parametrize("file", FILES)
def test_the_file_is_read_to_the_same_event(file: str) -> None:
    """The event has the same class and the same fields."""
    event = mapper().to_domain_event(StoredEvent(*golden_row(file)))
    assert type(event) is type(FILES[file])
    assert event == FILES[file]


@pytest.mark.parametrize("file", FILES)
def test_state_is_compact_json_starting_with_recorded_at(file: str) -> None:
    """Any JSON library can read it."""
    state = golden_row(file)[3]
    assert msgspec.json.encode(msgspec.json.decode(state)) == state
    assert state.startswith((b'{"recorded_at":"2026-11-01T1', b'{"recorded_at":"2026-12-31T1'))


def test_every_event_of_an_author_says_who_and_how() -> None:
    """By whom, by which request, and on behalf of whom: the author replaces a name that the call states."""
    for topic, event in EXAMPLES_WITH_AUTHOR.items():
        fields: dict[str, object] = msgspec.json.decode(mapper().to_row(event)[3])
        assert (fields["by"], fields["via"]) == (AUTHOR.by, AUTHOR.via), topic
        stated = msgspec.json.decode(mapper().to_row(EXAMPLES[topic])[3]).get("by")
        assert fields["on_behalf_of"] == (stated or AUTHOR.on_behalf_of), topic


def test_a_meter_event_is_stored_the_same_on_the_fast_path() -> None:
    """Batches write rows without creating event objects; the row is that of the event."""
    (row,) = meter_event_rows({"req-1": EVENT_DATA})
    assert row == mapper().to_row(EXAMPLES["UsageRecorded"]) == golden("UsageRecorded")


def test_the_fold_reads_every_stored_event() -> None:
    """They contain a meter event, a cancellation and its revocation; the others neither count nor stop the fold."""
    ((records, cancellations),) = _folded(
        "Configured",
        "Renamed",
        "UsageRecorded",
        "EventCancelled",
        "CancelRevoked",
        "Deactivated",
        "Reactivated",
        "RulesChanged",
        "DerivedMeterAdded",
        "PeriodClosed",
        "PeriodReopened",
        "AdjustmentSettled",
        "BillingRunStarted",
        "BillingRunClosed",
        "AccessKeyCreated",
        "AccessKeyRevoked",
        "EventsCancelled",
        "EventsCancelledPart",
        "EventsCancelRevoked",
        "EventsCancelRevokedPart",
        "ImportStarted",
        "ImportBatchRecorded",
        "ImportFinished",
        "HistoryPruned",
        "ApprovalPolicySet",
        "ApprovalPolicyChanged",
        "ChangeProposed",
        "ProposalApproved",
        "ProposalRejected",
        "ProposalExpired",
    )
    assert (len(records), [mark.is_revocation for mark in cancellations]) == (1, [False, True])


AUTHORSHIP = {"by", "via", "on_behalf_of", "approved_by", "proposal_id"}
CANCELLATIONS = (("EventCancelled",), ("EventCancelled", "CancelRevoked"))


@pytest.mark.parametrize("field", ["recorded_at", "event_name", "payload", "occurred_at", "recorded_position"])
@pytest.mark.parametrize("topics", CANCELLATIONS, ids=itemgetter(-1))
def test_a_cancellation_contains_the_fields_the_fold_needs(topics: Sequence[str], field: str) -> None:
    """The fold decodes these fields of a stored cancellation or revocation, and stops if any is missing."""
    with pytest.raises(ProjectionStopped, match=field):
        _folded("Configured", "UsageRecorded", *topics, without=field)


@pytest.mark.parametrize("topics", CANCELLATIONS, ids=itemgetter(-1))
def test_the_fold_needs_no_other_fields_of_a_cancellation(topics: Sequence[str]) -> None:
    """`reason`, `cancellation_id` and the author don't affect the fold, and there are no other fields."""
    needed = {"recorded_at", "event_name", "payload", "occurred_at", "recorded_position"}
    fields = {field.alias or name for name, field in TOPICS[topics[-1]].model_fields.items() if not field.exclude}
    assert fields - needed == {"reason", "cancellation_id", *AUTHORSHIP, "accepted_under"}
    complete = _folded("Configured", "UsageRecorded", *topics)
    for field in ("reason", "by"):
        assert _folded("Configured", "UsageRecorded", *topics, without=field) == complete


def _folded(*topics: str, without: str | None = None) -> list[tuple[dict[Any, Any], list[Any]]]:
    """Return the records and cancellations of each meter, without one field of the last event."""
    events: list[LedgerEvent] = []
    for position, topic in enumerate(topics, 1):
        fields: dict[str, object] = msgspec.json.decode(golden(topic)[3])
        if position == len(topics) and without is not None:
            del fields[without]
        events.append((position, topic, msgspec.json.encode(fields)))
    customers = {EVENT_DATA.payload["customer"]: 1}
    return [
        (dict(part.rows), list(part.cancellations))
        for page in fold_page([EventChunk.of(decode_rows(events))], {}, customers, {}).changed
        for part in page.parts
    ]
