"""A ledger with many meters: what they have in common is read once, not again for each."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tallybook.application import AcceptancePolicy, Metering
from tallybook.application.storage.sql_reader import SqlReadModelReader
from tallybook.domain.billing_run import BillingRun
from tallybook.domain.rules import Rules
from tallybook.projections.fold import fold_page
from tallybook.projections.models import FoldedRules, ProjectedMeter
from tallybook.projections.stored_events import EventChunk, decode_rows

pytestmark = pytest.mark.fast

START, MONTH = datetime(2025, 1, 1, tzinfo=UTC), timedelta(days=31)
QUERIES: dict[str, Callable[[Metering], object]] = {
    "invoice lines": lambda metering: metering.periods.invoice_lines(START + 2 * MONTH, START + 3 * MONTH),
    "status": lambda metering: metering.periods.status(START + MONTH, START + 2 * MONTH),
    "run": lambda metering: metering.periods.run(START + 2 * MONTH, START + 3 * MONTH),
}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return how often a stored run was read, and the meters of the read models."""
    counts: Counter[str] = Counter()
    apply_closed, read_meters = BillingRun.BillingRunClosed.apply, SqlReadModelReader.meters

    def count_run(event: BillingRun.BillingRunClosed, run: BillingRun) -> None:
        counts["runs"] += 1
        apply_closed(event, run)

    def count_meters(reader: SqlReadModelReader) -> object:
        counts["meters"] += 1
        return read_meters(reader)

    monkeypatch.setattr(BillingRun.BillingRunClosed, "apply", count_run)
    monkeypatch.setattr(SqlReadModelReader, "meters", count_meters)
    return counts


def billed_ledger(meters: int) -> Metering:
    """Return a ledger with usage of this many meters in three months, of which two are closed by a run."""
    metering = Metering.open("sqlite://", policy=AcceptancePolicy(max_age=None))
    for number in range(meters):
        metering.meters.configure(f"meter-{number}", customer_key="customer")
    for month in range(3):
        metering.record_many(
            {
                "event_name": f"meter-{number}",
                "payload": {"customer": "acme", "value": "1"},
                "timestamp": START + month * MONTH,
            }
            for number in range(meters)
        )
    for month in range(2):
        metering.periods.run(START + month * MONTH, START + (month + 1) * MONTH)
    metering.catch_up()
    return metering


@pytest.mark.parametrize("query", QUERIES)
def test_billing_runs_are_read_once_for_all_meters(reads: Counter[str], query: str) -> None:
    """Each run has a control total of each meter, so reading all runs for each meter takes the square of the time."""
    counts: list[int] = []
    for meters in (2, 9):
        with billed_ledger(meters) as metering:
            reads.clear()
            QUERIES[query](metering)
            counts.append(reads["runs"])
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("query", ["invoice lines", "status"])
def test_the_meters_are_read_once_in_a_query_of_all(reads: Counter[str], query: str) -> None:
    """Each part of the query asks for one meter, under the rules at the position of each billing run."""
    with billed_ledger(5) as metering:
        reads.clear()
        QUERIES[query](metering)
        assert reads["meters"] == 1


def test_a_page_makes_the_parsers_of_its_own_meters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page has often one event. It must not cost a parser of each meter that the ledger has."""
    made: list[Rules] = []
    make_parser = Rules.parser

    def count_parser(rules: Rules) -> object:
        made.append(rules)
        return make_parser(rules)

    monkeypatch.setattr(Rules, "parser", count_parser)
    meters = {
        f"meter-{number}": ProjectedMeter(f"meter-{number}", (FoldedRules(number, 0, Rules()),), ())
        for number in range(1, 21)
    }
    usage = {
        "recorded_at": START, "event_name": "meter-7", "payload": {"stripe_customer_id": "acme", "value": "1"},
        "occurred_at": START,
    }  # fmt: skip
    events = decode_rows([(1, "UsageRecorded", msgspec.json.encode(usage))])
    page = fold_page([EventChunk.of(events)], meters, {"acme": 1}, {})
    assert [changed.meter.event_name for changed in page.changed] == ["meter-7"]
    assert len(made) == 1
