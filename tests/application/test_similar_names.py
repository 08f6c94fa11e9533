"""An unknown meter: the error names similar ones."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from tallybook import Metering, MeterNotFound

START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)


@pytest.fixture
def metering() -> Iterator[Metering]:
    """A ledger with three meters."""
    with Metering.open("sqlite://") as opened:
        for event_name in ("tokens", "token_count", "storage"):
            opened.meters.configure(event_name)
        yield opened


CALLS: dict[str, Callable[[Metering], object]] = {
    "total": lambda metering: metering.total("token", "acme", START, END),
    "explain": lambda metering: metering.explain("token", "acme", START, END),
    "get": lambda metering: metering.meters.get("token"),
    "change rules": lambda metering: metering.rules.change("token", {"formula": "count"}, reason="a test"),
    "cancel": lambda metering: metering.cancel("token", "event-1"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_unknown_meter_names_similar_ones(metering: Metering, call: Callable[[Metering], object]) -> None:
    """Up to three; what does not look like any of them names none."""
    with pytest.raises(MeterNotFound) as exc_info:
        call(metering)
    assert exc_info.value.message.endswith("configure it first. Similar meters: tokens, token_count.")
    assert (exc_info.value.field, exc_info.value.value) == ("event_name", "token")
    with pytest.raises(MeterNotFound, match=r"configure it first\.$"):
        metering.meters.get("requests")
