"""A month of usage that never happened: the same 50,000 reports in every demonstration."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from random import Random
from typing import TypedDict

DAYS = 30
CUSTOMERS = 200
REPORTS = 50_000
SEED = 2026
CUSTOMER = "acme"
"""The customer that the story is told about; a small one."""
_PLACE = 100

METERS: Mapping[str, Mapping[str, str]] = {
    "api_requests": {"display_name": "API requests", "formula": "count"},
    "storage_gb": {"display_name": "Gigabytes stored", "formula": "last", "event_time_window": "day"},
    "tokens": {"display_name": "Tokens", "formula": "sum"},
}


class DemoReport(TypedDict):
    """One report, as `record_many` takes it."""

    event_name: str
    identifier: str
    timestamp: datetime
    payload: dict[str, str]


def month_of_usage(start: datetime) -> Iterator[DemoReport]:
    """The reports of the 30 days from `start`, in the order of time; always the same for the same start."""
    random = Random(SEED)  # noqa: S311 - to be reproduced, not to be secret
    moments = sorted(random.random() for _ in range(REPORTS))
    for number, moment in enumerate(moments, 1):
        event_name = random.choices(("tokens", "api_requests", "storage_gb"), weights=(60, 28, 12))[0]
        yield {
            "event_name": event_name,
            "identifier": f"demo-{number:05d}",
            "timestamp": start + timedelta(seconds=int(moment * DAYS * 86_400)),
            "payload": {"customer": _customer(random), "value": _value(event_name, random)},
        }


def _customer(random: Random) -> str:
    """Some customers use much, and most use little."""
    place = int(random.expovariate(4) * CUSTOMERS) % CUSTOMERS
    return CUSTOMER if place == _PLACE else f"customer-{place:03d}"


def _value(event_name: str, random: Random) -> str:
    match event_name:
        case "tokens":
            return str(random.randint(20, 4_000))
        case "storage_gb":
            return f"{random.randint(100, 90_000) / 100:.2f}"
        case _:
            return "1"
