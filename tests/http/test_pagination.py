"""Pagination: items that exist throughout are listed once, while others are added and removed."""

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.interfaces.http.api_types import ListParameters
from tallybook.application.interfaces.http.errors import ApiError
from tallybook.application.interfaces.http.pagination import (
    MAX_PAGE_BYTES,
    UnsortedPage,
    limit_page_size,
    page_within_size,
    paginate,
    paginate_unsorted,
    read_in_parts,
)
from tallybook.application.interruption import Interruption, QueryInterrupted, interruptible

NextPage = Callable[[Sequence[int]], Mapping[str, str]]
NUMBERS = st.sets(st.integers(0, 60), max_size=40)


class Change(NamedTuple):
    """Items added and removed between two pages."""

    added: set[int]
    removed: set[int]


CHANGES = st.lists(st.builds(Change, NUMBERS, NUMBERS), max_size=12)


def read_page(numbers: set[int], **params: object) -> tuple[Sequence[int], bool]:
    """Return a page of numbers, greatest first. The id of a number is the number."""
    return paginate(
        sorted(numbers, reverse=True), lambda number: (number,),
        lambda cursor: (int(cursor),) if cursor.isdecimal() else None, ListParameters(**params),  # type: ignore[arg-type]
    )  # fmt: skip


def read_all(
    initial: set[int], limit: int, changes: Sequence[Change], params: Mapping[str, str], next_page: NextPage
) -> tuple[list[int], set[int]]:
    """Return the items of all pages, and the items that existed throughout."""
    numbers, throughout, listed = set(initial), set(initial), list[int]()
    waiting = list(changes)
    while True:
        data, has_more = read_page(numbers, limit=limit, **params)
        listed += data
        if not has_more:
            return listed, throughout
        assert len(data) == limit
        params = next_page(data)
        if waiting:
            added, removed = waiting.pop()
            numbers = (numbers | added) - removed
            throughout -= removed


@given(initial=NUMBERS, limit=st.integers(1, 9), changes=CHANGES)
def test_newest_first_nothing_is_lost_or_duplicated(initial: set[int], limit: int, changes: Sequence[Change]) -> None:
    """Also if the last item of a page is removed before the next request."""
    listed, throughout = read_all(initial, limit, changes, {}, lambda data: {"starting_after": str(data[-1])})
    assert listed == sorted(set(listed), reverse=True)
    assert throughout <= set(listed)


@given(initial=NUMBERS, limit=st.integers(1, 9), changes=CHANGES)
def test_backwards_nothing_is_lost_or_duplicated(initial: set[int], limit: int, changes: Sequence[Change]) -> None:
    """From the smallest item on, with ending_before."""
    first = {"ending_before": "0"}
    listed, throughout = read_all(initial, limit, changes, first, lambda data: {"ending_before": str(data[0])})
    assert len(listed) == len(set(listed))
    assert throughout - {0} <= set(listed)
    assert [number for at in range(0, len(listed), limit) for number in listed[at : at + limit][::-1]] == sorted(listed)


PARAMS = st.fixed_dictionaries(
    {"limit": st.integers(1, 9)},
    optional={"starting_after": st.integers(0, 60).map(str), "ending_before": st.integers(0, 60).map(str)},
).filter(lambda params: len(params) < 3)


@given(numbers=NUMBERS, params=PARAMS, order=st.randoms(use_true_random=False), is_ascending=st.booleans())
def test_items_in_any_order_have_the_same_pages(
    numbers: set[int], params: dict[str, Any], order: Random, is_ascending: bool
) -> None:
    """As sorted ones have, also if a page ends because its items are large."""

    def size_of(number: int) -> int:
        return number * MAX_PAGE_BYTES // 100

    def sort_key(number: int) -> tuple[int]:
        return (number,)

    def decode_cursor(text: str) -> tuple[int]:
        return (int(text),)

    unsorted = list(numbers)
    order.shuffle(unsorted)
    in_order, parameters = sorted(numbers, reverse=not is_ascending), ListParameters(**params)
    data, has_more = paginate(in_order, sort_key, decode_cursor, parameters, is_ascending=is_ascending)
    expected, is_cut = limit_page_size(data, parameters, size_of)
    page = paginate_unsorted(unsorted, sort_key, decode_cursor, parameters, size_of, is_ascending=is_ascending)
    assert page == (list(expected), has_more or is_cut)


@given(numbers=NUMBERS, params=PARAMS, bound=st.integers(0, 60))
def test_a_page_says_which_items_it_needs_not(numbers: set[int], params: dict[str, Any], bound: int) -> None:
    """Without those before or from a bound on, if it says so, it is the same page."""

    def empty_page() -> UnsortedPage[int]:
        return UnsortedPage[int](
            lambda number: (number,), lambda text: (int(text),), ListParameters(**params), int, is_ascending=True
        )

    complete, needed = empty_page(), empty_page()
    complete.add_all(numbers)
    if not needed.begins_after((bound,)):
        needed.add_all(number for number in numbers if number < bound)
    if not needed.ends_before((bound,)):
        needed.add_all(number for number in numbers if number >= bound)
    assert (needed.items(), needed.has_more) == (complete.items(), complete.has_more)


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


@pytest.mark.parametrize(("params", "expected", "has_more"), PAGES)
def test_pages(params: dict[str, object], expected: list[int], has_more: bool) -> None:
    """A page before an item has the nearest ones, newest first."""
    assert read_page(set(range(10)), **params) == (expected, has_more)


@pytest.mark.parametrize("param", ["starting_after", "ending_before"])
def test_an_invalid_cursor_is_rejected(param: str) -> None:
    """The error names the parameter."""
    with pytest.raises(ApiError) as exc_info:
        read_page({1}, **{param: "x"})
    error = exc_info.value.error
    assert (exc_info.value.status, error.code, error.param) == (400, "resource_missing", param)


def test_both_cursors_together_are_rejected() -> None:
    """Stripe has no page between two cursors."""
    with pytest.raises(ApiError, match="both"):
        read_page({1, 2, 3}, starting_after="3", ending_before="1")


@given(sizes=st.lists(st.integers(1, 3 * MAX_PAGE_BYTES), max_size=60), max_items=st.integers(0, 80))
def test_items_are_read_completely_in_parts(sizes: list[int], max_items: int) -> None:
    """Each item once, in order; after large items the parts are small."""
    calls: list[tuple[int, int]] = []

    def read_after(last: int | None, count: int) -> Sequence[int]:
        start = 0 if last is None else last + 1
        calls.append((start, count))
        return range(start, min(start + count, len(sizes)))

    assert list(read_in_parts(read_after, sizes.__getitem__, max_items)) == list(range(min(len(sizes), max_items)))
    for (start, count), (following, next_count) in pairwise(calls):
        mean = sum(sizes[start : start + count]) / count
        assert following == start + count
        assert next_count == 1 or next_count * mean <= MAX_PAGE_BYTES


@given(sizes=st.lists(st.integers(1, 2 * MAX_PAGE_BYTES), max_size=30), limit=st.integers(1, 20))
def test_a_page_has_a_maximum_size(sizes: list[int], limit: int) -> None:
    """It has at least one item, and says whether there are more."""
    page, has_more = page_within_size(sizes, limit, int)
    assert page == sizes[: len(page)]
    assert len(page) <= limit
    assert has_more == (len(page) < len(sizes))
    assert len(page) <= 1 or sum(page) <= MAX_PAGE_BYTES
    if has_more and len(page) < limit:
        assert sum(sizes[: len(page) + 1]) > MAX_PAGE_BYTES


def test_reading_in_parts_stops_when_the_query_has_to_stop() -> None:
    """Also if its caller has found nothing yet among the items."""
    interruption, parts = Interruption(), list[int | None]()

    def read_after(last: int | None, count: int) -> Sequence[int]:
        parts.append(last)
        if len(parts) == 3:
            interruption.interrupt()
        start = 0 if last is None else last + 1
        return range(start, start + count)

    with interruptible(interruption), pytest.raises(QueryInterrupted):
        next(item for item in read_in_parts(read_after, int, sys.maxsize) if item < 0)
    assert len(parts) == 3
