"""What is kept goes with the events that it is about, whatever fails: both are there, or neither."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import count

import pytest
from tallybook.application import KeptRow, Metering, Receipt, TallybookError

from ..postgres import Database
from ..simulate.seams import short_patience
from ..simulate.stores import SERVERS
from .failing import Failing
from .places import STORES
from .statements import watched
from .works import NOW, Work, use


def begin(metering: Metering) -> None:
    """One use, and two rows that are kept."""
    metering.configure_meter("tokens", customer_key="customer", dimension_keys=["region"])
    metering.record_many([use(1)])
    metering.keeper().change(add=[KeptRow("delivery", "1", 1, b""), KeptRow("delivery", "2", 2, b"")])


def answered(receipts: Sequence[Receipt], now: datetime) -> list[KeptRow]:
    """What a server keeps of an answer."""
    positions = [receipt.position for receipt in receipts]
    return [KeptRow("answer", "key", 5, f"{positions}".encode()), KeptRow("delivery", "3", 3, b"")]


def change(metering: Metering) -> None:
    """Rows added, put and taken away at once."""
    metering.keeper().change(
        add=[KeptRow("delivery", "4", 4, b"")], put=[KeptRow("delivery", "1", 9, b"again")], remove=[("delivery", "2")]
    )


WORKS: dict[str, Callable[[Metering], object]] = {
    "with events": lambda metering: metering.record_beside([use(2), use(3)], answered),
    "with none that is new": lambda metering: metering.record_beside([use(1)], answered),
    "by itself": change,
}
CASES = [
    (store, way) for store in STORES for way in ("once", "answer lost", *(["cut off"] if store == "postgres" else []))
]


@pytest.fixture(autouse=True)
def _patience(postgres: Database) -> Iterator[None]:
    """Nobody waits long for what is held by who failed."""
    if not SERVERS:
        SERVERS.append(postgres)
    with short_patience():
        yield


def stored(metering: Metering) -> object:
    """All that is recorded and kept."""
    rows = [row for kind in ("answer", "delivery") for row in metering.keeper().select(kind, limit=10)]
    return [one.identifier for one in metering.events("tokens")], rows


@pytest.mark.parametrize("work", WORKS)
@pytest.mark.parametrize(("store", "way"), CASES)
def test_whatever_fails_all_of_it_is_stored_or_nothing(store: str, way: str, work: str) -> None:
    """At each statement in turn. Nobody takes what they kept themselves, just before, for somebody else's.

    On PostgreSQL a commit whose answer is lost is looked for, and found.
    """
    do, met = WORKS[work], 0
    with STORES[store](Work(work, do, begin=begin)) as copies:
        with copies() as place, place.open(lambda: NOW) as metering:
            before = stored(metering)
            do(metering)
            after = stored(metering)
        for at in count(1):
            failing = Failing(way, at)
            with copies() as place, watched(failing), place.open(lambda: NOW) as metering:
                with failing.armed():
                    is_done = succeeds(lambda metering=metering: do(metering))
                found = stored(metering)
                assert found == after if is_done else found in (before, after), f"after statement {at}"
                assert is_done or store == "sqlite" or way == "once"
            if not failing.is_met:
                break
            met += 1
    assert met > (way != "answer lost")


def succeeds(do: Callable[[], object]) -> bool:
    """Whether something is done rather than refused, which it is as unavailable."""
    try:
        do()
    except TallybookError as error:
        if error.code != "ledger_unavailable":
            raise
        return False
    return True
