"""Whatever a store fails at, and however: what was acknowledged is there, once; what failed is whole or not at all.

TALLYBOOK_FAULTS=all fails every work at each of its statements, on each store; by default, long works at some.
"""

import os
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from tallybook.application import Metering, TallybookError

from ..postgres import Database
from ..simulate.model import Row
from ..simulate.seams import short_patience, small_pages
from ..simulate.stores import SERVERS, Place
from .failing import KILLED, Failing
from .places import STORES
from .statements import watched
from .works import NOW, WORKS, Work, answers

ALL_WAYS = ("once", "from then on", "answer lost", "killed", "killed after a commit")
ON_POSTGRES = {
    "record many":      "cut off, answer lost, killed",
    "cancel":           "cut off, answer lost, killed after a commit",
    "catch up":         "once, cut off",
    "close a period":   "from then on, answer lost, killed",
    "change rules":     "once, cut off, answer lost, killed",
    "promote":          "cut off, killed after a commit",
    "verify":           "once",
}  # fmt: skip
"""What is tried by default where all of it takes long."""
EACH = os.environ.get("TALLYBOOK_FAULTS") == "all"
CASES = [
    (store, work, way)
    for store in STORES
    for work in WORKS
    for way in (*ALL_WAYS, *(["cut off"] if store == "postgres" else []))
    if EACH or store == "sqlite" or way in ON_POSTGRES.get(work.name, "").split(", ")
]


@pytest.fixture(autouse=True)
def _patience(postgres: Database) -> Iterator[None]:
    """Pages are small, so that there are several; and nobody waits long for what is held by who failed."""
    if not SERVERS:
        SERVERS.append(postgres)
    with small_pages(), short_patience():
        yield


@pytest.mark.parametrize(("store", "work", "way"), CASES, ids=str)
def test_failing_at_the_nth_statement(store: str, work: Work, way: str) -> None:
    """At the first, the second, and so on, until the work runs through without meeting the fault.

    What was done before isn't touched, and done again with the store well, the work has done what it should.
    """
    attempt = attempt_in_a_process_of_its_own if way.startswith("killed") else attempt_here
    with STORES[store](work) as copies:
        with copies() as place:
            rows = place.rows(0)
            wanted = done_in_peace(place, work)
        met = 0
        for at in statements(store):
            with copies() as place:
                is_met = attempt(place, work, Failing(way, at), [rows, wanted[0]])
                assert done_in_peace(place, work) == wanted, f"done again after statement {at}"
            if not is_met:
                break
            met += 1
    assert met, "the work has no such statement"


def statements(store: str) -> Iterator[int]:
    """Numbers of statements to fail at, without end: each one, or, by default, some."""
    if EACH:
        return count(1)
    if store == "sqlite":
        return (at for at in count(1) if at <= 10 or not at % 6)
    return (2**power for power in count(0))


def attempt_here(place: Place, work: Work, failing: Failing, allowed: list[list[Row]]) -> bool:
    """Do the work on a store that fails, then again on one that has recovered, without opening it anew."""
    with watched(failing), place.open(lambda: NOW) as metering:
        with failing.armed():
            is_done = tried(lambda: right(work, metering), ["ledger_unavailable"])
        check(place, is_done, failing, allowed)
        if failing.is_met:
            tried(lambda: right(work, metering), work.refusals)
            assert place.rows(0) == allowed[-1], f"done again at once after statement {failing.at}"
    return failing.is_met


def attempt_in_a_process_of_its_own(place: Place, work: Work, failing: Failing, allowed: list[list[Row]]) -> bool:
    """Do the work in a process that is killed at a statement."""
    child = os.fork()
    if not child:
        try:
            with watched(failing), place.open(lambda: NOW) as metering, failing.armed():
                work.do(metering)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED)
    failing.is_met = code == KILLED
    check(place, not failing.is_met, failing, allowed)
    return failing.is_met


def check(place: Place, is_done: bool, failing: Failing, allowed: list[list[Row]]) -> None:
    """What was acknowledged is there; what was not is there wholly or not at all."""
    assert is_done or failing.is_met
    rows = place.rows(0)
    assert rows in (allowed[-1:] if is_done else allowed), f"after statement {failing.at}"


def right(work: Work, metering: Metering) -> None:
    """Do the work, which gives what it should if it gives anything."""
    given = work.do(metering)
    assert work.is_right(given), given


def tried(do: Callable[[], Any], refusals: Any) -> bool:
    """Whether something was done; otherwise it must have been refused with one of some codes."""
    try:
        do()
    except TallybookError as error:
        if error.code not in refusals:
            raise
        return False
    return True


def done_in_peace(place: Place, work: Work) -> tuple[list[Row], list[object]]:
    """Do the work with nothing going wrong; give all rows and all answers, which a fresh fold must give too."""
    with place.open(lambda: NOW) as metering:
        tried(lambda: right(work, metering), work.refusals)
        assert metering.verify().is_equal
        return place.rows(0), answers(metering)
