"""A history with all kinds of events that a page can contain, and the results of all queries on it."""

import random
from datetime import UTC, datetime, timedelta

from tallybook.application import Explanation, Metering, Receipt, TotalList
from tallybook.application.ledger.ledger import Ledger
from tallybook.domain.meter_event import MeterEventData
from tallybook.projections.ports import ReadModelStore, ResettableReadModelStore, TableRow
from tallybook.projections.projector import Projector

START = datetime(2026, 10, 1, tzinfo=UTC)
END = datetime(2026, 11, 1, tzinfo=UTC)
CUSTOMERS = ("acme", "globex", "initech", "umbrella")
METERS = ("tokens", "seats", "jobs")

Contents = dict[str, list[TableRow]]
QueryResults = tuple[TotalList, TotalList, Explanation]


def configure(metering: Metering) -> None:
    """Configure a sum without a window, a last value per hour, and a count per day by region."""
    metering.meters.configure("tokens", customer_key="customer")
    metering.meters.configure("seats", formula="last", event_time_window="hour", customer_key="customer")
    metering.meters.configure(
        "jobs", formula="count", event_time_window="day", customer_key="customer", dimension_keys=["region"]
    )


def random_event(number: int, rng: random.Random) -> dict[str, object]:
    """Return a meter event at a random time of four days, so that events supersede others and hit window bounds."""
    return {
        "event_name": rng.choice(METERS),
        "identifier": f"use-{number:05d}",
        "timestamp": START + timedelta(minutes=rng.randrange(4 * 24 * 12) * 5),
        "payload": {
            "customer": rng.choice(CUSTOMERS),
            "value": f"{rng.randrange(-20, 100)}.{rng.randrange(10)}",
            "region": rng.choice(("eu", "us")),
        },
    }


def record_history(metering: Metering, event_count: int = 120, seed: int = 7) -> list[Receipt]:
    """Record meter events of three meters in batches of ten; cancel every ninth event and rename a meter in between."""
    rng = random.Random(seed)
    configure(metering)
    receipts: list[Receipt] = []
    for first in range(0, event_count, 10):
        batch = [random_event(number, rng) for number in range(first, first + 10)]
        receipts += metering.record_many(batch)
        metering.meters.rename("tokens", f"Tokens {first}")
        for event in batch[::9]:
            metering.cancel(str(event["event_name"]), str(event["identifier"]), reason="a test", by="ops")
    return receipts


def query_results(metering: Metering) -> dict[str, QueryResults]:
    """Return the totals, the hourly summaries and the explained events of each meter."""
    return {
        name: (
            metering.totals(name, START, END),
            metering.summaries(name, None, START, END, window="hour"),
            metering.explain(name, None, START, END),
        )
        for name in METERS
    }


def read_model_rows(read_models: ReadModelStore) -> tuple[int, Contents]:
    """Return the position and all rows of a generation, or of the live one if `read_models` has several."""
    with read_models.read_session() as rows:
        return rows.position(), {table: list(rows.table_rows(table)) for table in rows.table_names()}


def fold_from_start(ledger: Ledger, views: ResettableReadModelStore, page_size: int) -> tuple[int, Contents]:
    """Return the position and rows of the read models after a fold from the start."""
    views.reset()
    Projector(ledger, views, page_size).catch_up()
    return read_model_rows(views)


def meter_event_data(number: int = 1) -> MeterEventData:
    """Return a meter event to append directly to the ledger."""
    return MeterEventData(END, "tokens", {"customer": "acme", "value": str(number)}, START)
