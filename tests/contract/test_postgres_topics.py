"""The database rejects stored events with unknown topics from any writer."""

import pytest
from tallybook.application import TallybookError
from tallybook.application.ledger.mapper import TOPICS
from tallybook.application.storage.postgres import ledger_schema
from tallybook.domain.access_key import AccessKey
from tallybook.domain.approval_policy import ApprovalPolicy
from tallybook.domain.billing_run import BillingRun
from tallybook.domain.bulk_cancellation import BulkCancellation
from tallybook.domain.customer_periods import CustomerPeriods
from tallybook.domain.history_pruning import HistoryPruning
from tallybook.domain.import_run import ImportRun
from tallybook.domain.meter import Meter
from tallybook.domain.meter_event import MeterEvent
from tallybook.domain.proposal import Proposal

from .histories import record_history
from .persistent_stores import PostgresSchema, Step, StoreRejected

AGGREGATES = {
    "meter": Meter,
    "event": MeterEvent,
    "period": CustomerPeriods,
    "run": BillingRun,
    "history": HistoryPruning,
    "cancellation": BulkCancellation,
    "import": ImportRun,
    "key": AccessKey,
    "approval": ApprovalPolicy,
    "proposal": Proposal,
}
INSERT = (
    "INSERT INTO stored_events SELECT (SELECT max(position) + 1 FROM stored_events), ?, 1, ?, state"
    " FROM stored_events WHERE position = 1"
)


def test_the_database_knows_the_topics_of_the_application() -> None:
    """A new topic needs a migration of the schema, which replaces the function that checks topics."""
    assert {topic for topics in ledger_schema.TOPICS.values() for topic in topics} == set(TOPICS)
    for kind, topics in ledger_schema.TOPICS.items():
        assert all(topic in vars(AGGREGATES[kind]) for topic in topics)


@pytest.mark.parametrize(
    ("stream", "topic"),
    [
        ("event/new", "Unknown"),
        ("event/new", ""),
        ("event/new", "usagerecorded"),
        ("event/new", "Configured"),
        ("meter/new", "UsageRecorded"),
        ("event", "AccessKeyCreated"),
        ("other/new", "UsageRecorded"),
        ("", "UsageRecorded"),
    ],
)
def test_unknown_topics_are_rejected(postgres_store: PostgresSchema, stream: str, topic: str) -> None:
    """Each kind of stream has its own topics."""
    with postgres_store.metering() as metering:
        record_history(metering, 5)
        with pytest.raises(StoreRejected, match="known topics"):
            postgres_store.execute("ledger", Step(INSERT, (stream, topic)))
        assert metering.verify().is_equal


def test_all_rows_of_a_statement_are_checked(postgres_store: PostgresSchema) -> None:
    """One unknown topic is enough."""
    with postgres_store.metering() as metering:
        record_history(metering, 5)
    insert = (
        "INSERT INTO stored_events SELECT head + number, 'event/' || number, 1, new_topic, state FROM stored_events,"
        " (SELECT max(position) AS head FROM stored_events) AS newest,"
        " (VALUES (1, 'UsageRecorded'), (2, 'Unknown'), (3, 'UsageRecorded')) AS new (number, new_topic)"
        " WHERE position = 1"
    )
    with pytest.raises(StoreRejected, match="known topics"):
        postgres_store.execute("ledger", Step(insert))
    (accepted,) = postgres_store.execute("ledger", Step(insert.replace("Unknown", "UsageRecorded")))
    assert accepted.row_count == 3


def test_an_event_that_the_database_cannot_convert_does_not_make_the_ledger_unavailable(
    postgres_store: PostgresSchema,
) -> None:
    """An operator's constraint or policy may fail on one event: a retry fails again, and other events are recorded."""
    with postgres_store.metering() as metering:
        record_history(metering, 5)
        postgres_store.execute(
            "ledger",
            Step("ALTER TABLE stored_events ADD CHECK (originator_id <> 'event/bad' OR originator_id::integer > 0)"),
        )
        payload = {"customer": "acme", "value": "1"}
        with pytest.raises(TallybookError, match="invalid input syntax") as exc_info:
            metering.record("seats", payload, identifier="bad")
        assert (exc_info.value.code, exc_info.value.http_status) == ("ledger_corrupted", 500)
        metering.record("seats", payload, identifier="good")
