"""Demo data: a generated month of usage, the same 50,000 meter events each time."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from random import Random
from typing import TypedDict

DAYS = 30
CUSTOMERS = 200
EVENT_COUNT = 50_000
SEED = 2026
CUSTOMER = "acme"
"""The customer that the demo is about; it has little usage."""
_CUSTOMER_RANK = 100


class DemoMeter(TypedDict, total=False):
    """The arguments that a meter is configured with."""

    display_name: str
    formula: str
    event_time_window: str


METERS: Mapping[str, DemoMeter] = {
    "api_requests": {"display_name": "API requests", "formula": "count"},
    "storage_gb": {"display_name": "Gigabytes stored", "formula": "last", "event_time_window": "day"},
    "tokens": {"display_name": "Tokens", "formula": "sum"},
}


class DemoEvent(TypedDict):
    """One meter event, as `record_many` accepts it."""

    event_name: str
    identifier: str
    timestamp: datetime
    payload: dict[str, str]


def generate_month(start: datetime) -> Iterator[DemoEvent]:
    """Generate the meter events of the 30 days from `start`, in order of time; the same for the same start."""
    random = Random(SEED)  # noqa: S311 - reproducible, not secret
    moments = sorted(random.random() for _ in range(EVENT_COUNT))
    for number, moment in enumerate(moments, 1):
        event_name = random.choices(("tokens", "api_requests", "storage_gb"), weights=(60, 28, 12))[0]
        yield {
            "event_name": event_name,
            "identifier": f"demo-{number:05d}",
            "timestamp": start + timedelta(seconds=int(moment * DAYS * 86_400)),
            "payload": {"customer": _customer(random), "value": _value(event_name, random)},
        }


def _customer(random: Random) -> str:
    """Return a random customer: a few have much usage, and most have little."""
    rank = int(random.expovariate(4) * CUSTOMERS) % CUSTOMERS
    return CUSTOMER if rank == _CUSTOMER_RANK else f"customer-{rank:03d}"


def _value(event_name: str, random: Random) -> str:
    match event_name:
        case "tokens":
            return str(random.randint(20, 4_000))
        case "storage_gb":
            return f"{random.randint(100, 90_000) / 100:.2f}"
        case _:
            return "1"
