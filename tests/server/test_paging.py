"""Pages: whatever comes or goes between two of them, what was there throughout is read once."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.server.paging import page
from tallybook.application.server.refusals import Refusal
from tallybook.application.server.wire import ListParameters

NextPage = Callable[[Sequence[int]], Mapping[str, str]]
NUMBERS = st.sets(st.integers(0, 60), max_size=40)


class Change(NamedTuple):
    """What comes and goes between two pages."""

    come: set[int]
    go: set[int]


CHANGES = st.lists(st.builds(Change, NUMBERS, NUMBERS), max_size=12)


def read(numbers: set[int], **asked: object) -> tuple[Sequence[int], bool]:
    """A page of numbers, greatest first, whose ids are themselves."""
    return page(
        sorted(numbers, reverse=True), lambda number: (number,),
        lambda given: (int(given),) if given.isdecimal() else None, ListParameters(**asked),  # type: ignore[arg-type]
    )  # fmt: skip


def read_all(
    there: set[int], limit: int, changes: Sequence[Change], asked: Mapping[str, str], next_page: NextPage
) -> tuple[list[int], set[int]]:
    """What all pages have, one after the other, and what was there throughout."""
    numbers, throughout, found = set(there), set(there), list[int]()
    waiting = list(changes)
    while True:
        data, has_more = read(numbers, limit=limit, **asked)
        found += data
        if not has_more:
            return found, throughout
        assert len(data) == limit
        asked = next_page(data)
        if waiting:
            come, go = waiting.pop()
            numbers = (numbers | come) - go
            throughout -= go


@given(there=NUMBERS, limit=st.integers(1, 9), changes=CHANGES)
def test_newest_first_nothing_is_lost_or_doubled(there: set[int], limit: int, changes: Sequence[Change]) -> None:
    """Also where what a page ended with is gone when the next one is asked for."""
    found, throughout = read_all(there, limit, changes, {}, lambda data: {"starting_after": str(data[-1])})
    assert found == sorted(set(found), reverse=True)
    assert throughout <= set(found)


@given(there=NUMBERS, limit=st.integers(1, 9), changes=CHANGES)
def test_backwards_nothing_is_lost_or_doubled(there: set[int], limit: int, changes: Sequence[Change]) -> None:
    """From the least on, with ending_before."""
    first = {"ending_before": "0"}
    found, throughout = read_all(there, limit, changes, first, lambda data: {"ending_before": str(data[0])})
    assert len(found) == len(set(found))
    assert throughout - {0} <= set(found)
    assert [number for at in range(0, len(found), limit) for number in found[at : at + limit][::-1]] == sorted(found)


PAGES: list[tuple[dict[str, object], list[int], bool]] = [
    ({"limit": 3}, [9, 8, 7], True),
    ({"limit": 10}, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0], False),
    ({"limit": 9}, [9, 8, 7, 6, 5, 4, 3, 2, 1], True),
    ({"limit": 3, "starting_after": "3"}, [2, 1, 0], False),
    ({"limit": 2, "starting_after": "3"}, [2, 1], True),
    ({"limit": 3, "starting_after": "0"}, [], False),
    ({"limit": 3, "ending_before": "6"}, [9, 8, 7], False),
    ({"limit": 2, "ending_before": "6"}, [8, 7], True),
    ({"limit": 3, "ending_before": "9"}, [], False),
    ({"limit": 3, "ending_before": "99"}, [], False),
]


@pytest.mark.parametrize(("asked", "expected", "has_more"), PAGES)
def test_pages(asked: dict[str, object], expected: list[int], has_more: bool) -> None:
    """Before an item comes what is nearest to it, still newest first."""
    assert read(set(range(10)), **asked) == (expected, has_more)


@pytest.mark.parametrize("param", ["starting_after", "ending_before"])
def test_a_cursor_that_is_none_is_refused(param: str) -> None:
    """By its name."""
    with pytest.raises(Refusal) as refused:
        read({1}, **{param: "x"})
    error = refused.value.error
    assert (refused.value.status, error.code, error.param) == (400, "resource_missing", param)


def test_both_ways_at_once_are_refused() -> None:
    """After and before is a page of nothing that Stripe has."""
    with pytest.raises(Refusal, match="both"):
        read({1, 2, 3}, starting_after="3", ending_before="1")
