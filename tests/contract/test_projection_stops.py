"""The contract of the projector at events that cannot be folded: it stops there and says where."""

import pytest
from tallybook.application import Metering
from tallybook.application.ledger.ledger import Ledger
from tallybook.domain.errors import ProjectionStopped
from tallybook.projections.projector import Projector

from .histories import METERS, fold_from_start, query_results, read_model_rows, record_history
from .persistent_stores import PostgresSchema, Step
from .stores import Store

INVALID_EVENTS = {
    "not JSON": ("UsageRecorded", b'{"recorded_at":"2026-11-01T00:00:00Z"'),
    "a missing field": ("UsageRecorded", b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"tokens"}'),
    "an unknown meter": (
        "UsageRecorded",
        (
            b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"nothing","payload":{"customer":"acme","value":"1"},'
            b'"occurred_at":"2026-10-01T00:00:00Z"}'
        ),
    ),
    "not a number": (
        "UsageRecorded",
        (
            b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"tokens","payload":{"customer":"acme","value":"1e3"},'
            b'"occurred_at":"2026-10-01T00:00:00Z"}'
        ),
    ),
    "not UTF-8": ("UsageRecorded", b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"\xff"}'),
    "an unknown topic": ("UsageDoubled", b'{"recorded_at":"2026-11-01T00:00:00Z"}'),
    "a cancellation of an unknown event": (
        "EventCancelled",
        (
            b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"tokens","payload":{"customer":"acme","value":"1"},'
            b'"occurred_at":"2026-10-01T00:00:00Z","recorded_position":1,"reason":null,"by":null}'
        ),
    ),
    "a cancellation under another meter": (
        "EventCancelled",
        (
            b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"seats","payload":{"customer":"acme","value":"1"},'
            b'"occurred_at":"2026-10-01T00:00:00Z","recorded_position":1,"reason":null,"by":null}'
        ),
    ),
    "a time without an offset": (
        "UsageRecorded",
        (
            b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"tokens","payload":{"customer":"acme","value":"1"},'
            b'"occurred_at":"2026-10-01T00:00:00"}'
        ),
    ),
    "an existing meter": (
        "Configured",
        b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"tokens","display_name":"tokens","rules":{"formula":"last"}}',
    ),
    "a meter without rules": ("Configured", b'{"recorded_at":"2026-11-01T00:00:00Z","event_name":"strange"}'),
}
"""Topics and states. All have the time of the events before them, since a store accepts no earlier one."""


@pytest.mark.parametrize("invalid_event", INVALID_EVENTS)
def test_the_projector_stops_at_an_event_that_cannot_be_folded(store: Store, invalid_event: str) -> None:
    """The error has the position and the cause. All earlier events are folded, and the event is never skipped."""
    page_size = (1, 10, 10_000)[list(INVALID_EVENTS).index(invalid_event) % 3]
    with store.metering() as metering:
        record_history(metering, 10)
        with store.components() as (ledger, views):
            expected = fold_from_start(ledger, views, page_size)
            good = ledger.head()
            _store_invalid_event(store, ledger, invalid_event)
            metering.record_many([{"event_name": "tokens", "payload": {"customer": "acme", "value": "1"}}] * 3)
            for _ in range(2):
                with pytest.raises(ProjectionStopped, match=f"position {good + 1}") as stopped:
                    Projector(ledger, views, page_size).catch_up()
                assert (stopped.value.position, stopped.value.code) == (good + 1, "projection_stopped")
                assert read_model_rows(views) == expected
            store.reset_read_models()
            with pytest.raises(ProjectionStopped, match=f"position {good + 1}"):
                Projector(ledger, views, page_size).catch_up()
            assert read_model_rows(views) == expected


@pytest.mark.parametrize(
    "invalid_event",
    [
        ("a cancellation of an unknown event", "not JSON"),
        ("a cancellation under another meter", "a cancellation of an unknown event"),
    ],
)
def test_the_first_of_two_invalid_events_in_a_page_is_reported(store: Store, invalid_event: tuple[str, str]) -> None:
    """All events before it are folded, whether decoding or counting an event fails."""
    with store.metering() as metering:
        record_history(metering, 20)
        with store.components() as (ledger, views):
            expected = fold_from_start(ledger, views, 10_000)
            good = ledger.head()
            for event in invalid_event:
                _store_invalid_event(store, ledger, event)
            store.reset_read_models()
            with pytest.raises(ProjectionStopped) as stopped:
                Projector(ledger, views).catch_up()
            assert stopped.value.position == good + 1
            assert read_model_rows(views) == expected


def test_a_query_reports_where_the_projection_stopped(metering: Metering, store: Store) -> None:
    """A query after an invalid event raises an error with its position, and never returns outdated results."""
    record_history(metering, 10)
    assert set(query_results(metering)) == set(METERS)
    with store.components() as (ledger, _):
        _store_invalid_event(store, ledger, "not JSON")
        with pytest.raises(ProjectionStopped, match=f"position {ledger.head()}"):
            query_results(metering)


def _store_invalid_event(store: Store, ledger: Ledger, invalid_event: str) -> None:
    """Store an invalid event without the application, as corruption or a newer version would."""
    row = (f"event/bad {invalid_event}", 1, *INVALID_EVENTS[invalid_event])
    if isinstance(store, PostgresSchema):  # its triggers reject unknown topics
        insert = "INSERT INTO stored_events SELECT max(position) + 1, ?, ?, ?, ? FROM stored_events"
        store.execute("ledger", *store.without_triggers(Step(insert, row)))
    else:
        ledger.ledger_recorder.insert_rows([row])
