"""A history with all that a page can hold, and everything that can be asked about it."""

import random
from datetime import UTC, datetime, timedelta

from tallybook.application import Explanation, Metering, Receipt, Total
from tallybook.application.ledger import Ledger
from tallybook.application.reading import UsageReader
from tallybook.domain.errors import NoMeter
from tallybook.domain.meter_event import ReportedUse
from tallybook.projections.projector import Projector
from tallybook.projections.rows import Views

START = datetime(2026, 10, 1, tzinfo=UTC)
END = datetime(2026, 11, 1, tzinfo=UTC)
CUSTOMERS = ("acme", "globex", "initech", "umbrella")
METERS = ("tokens", "seats", "jobs")

Answers = tuple[list[Total], list[Total], Explanation]


def configure(metering: Metering) -> None:
    """A raw sum, the last of each hour, and a count of one a day by region."""
    metering.configure_meter("tokens", customer_key="customer")
    metering.configure_meter("seats", formula="last", event_time_window="hour", customer_key="customer")
    metering.configure_meter(
        "jobs", formula="count", event_time_window="day", customer_key="customer", dimension_keys=["region"]
    )


def report(number: int, rng: random.Random) -> dict[str, object]:
    """One report of many, at any time of four days, so that windows are overwritten and edges are hit."""
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


def record_history(metering: Metering, reports: int = 120, seed: int = 7) -> list[Receipt]:
    """Three meters, `reports` reports in batches of ten, and a cancel of every ninth; meters renamed in between."""
    rng = random.Random(seed)
    configure(metering)
    receipts: list[Receipt] = []
    for first in range(0, reports, 10):
        batch = [report(number, rng) for number in range(first, first + 10)]
        receipts += metering.record_many(batch)
        metering.rename_meter("tokens", f"Tokens {first}")
        for one in batch[::9]:
            metering.cancel(str(one["event_name"]), str(one["identifier"]), reason="a test", by="ops")
    return receipts


def answers(metering: Metering) -> dict[str, Answers]:
    """For each meter its totals, its hours, and the events behind them."""
    return {
        name: (
            metering.totals(name, START, END),
            metering.summaries(name, None, START, END, window="hour"),
            metering.explain(name, None, START, END),
        )
        for name in METERS
    }


class StillProjector(Projector):
    """A projector that leaves the read models where they are, so that a test sees how far they have come."""

    def head(self) -> int:
        """Where they are."""
        with self.views.reading() as rows:
            return rows.position()


def contents(ledger: Ledger, views: Views) -> tuple[int, dict[str, object]]:
    """All that the read models hold: their position, and what they say of each meter, now and as of halfway."""
    reader = UsageReader(ledger, still := StillProjector(ledger, views), follow_rules=lambda: None)
    position = still.head()
    said: dict[str, object] = {}
    for name in METERS:
        try:
            said[name] = [
                (
                    reader.totals(name, START, END, as_of),
                    reader.summaries(name, None, START, END, "day", "UTC", as_of),
                    reader.explain(name, None, START, END, as_of).events,
                )
                for as_of in (None, position // 2)
            ]
        except NoMeter:
            said[name] = "no meter"
    return position, said


def a_use(number: int = 1) -> ReportedUse:
    """A use to be stored past the application."""
    return ReportedUse(END, "tokens", {"customer": "acme", "value": str(number)}, START)
