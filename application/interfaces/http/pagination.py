"""Cursor pagination: a cursor stays valid when items are added or removed, and a page has a limited size."""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import gt, itemgetter, lt
from typing import Any, Generic, TypeVar

from ...interruption import check_interruption
from .api_types import ListObject, ListParameters
from .errors import ApiError, invalid_parameter

Item = TypeVar("Item")
Cursor = TypeVar("Cursor")
SortKey = tuple[Any, ...]

MAX_PAGE_BYTES = 4 * 1024 * 1024
"""A page ends before the item that would make it larger, but has at least one item."""
_FIRST_PART, _MAX_PART, _PART_BYTES = 11, 500, 1024 * 1024


def paginate(
    items: Sequence[Item], sort_key: Callable[[Item], SortKey], decode_cursor: Callable[[str], SortKey | None],
    params: ListParameters, *, is_ascending: bool = False,
) -> tuple[Sequence[Item], bool]:  # fmt: skip
    """Return the requested page of `items`, and whether more items follow it.

    `items` are sorted descending by `sort_key`, or ascending with `is_ascending`. `decode_cursor` returns the sort key
    of an id, or None if the id is not valid. The item of a cursor need not exist any more. Raises ApiError.
    """
    is_before, is_after = (lt, gt) if is_ascending else (gt, lt)
    after, before = resolve_cursors(params, decode_cursor)
    if before is not None:
        preceding = [item for item in items if is_before(sort_key(item), before)]
        return preceding[-params.limit :], len(preceding) > params.limit
    following = items if after is None else [item for item in items if is_after(sort_key(item), after)]
    return following[: params.limit], len(following) > params.limit


class UnsortedPage(Generic[Item]):
    """The page of a list whose items come in any order. Only the items of the page are held.

    There are at most `limit` of them, in at most MAX_PAGE_BYTES. No two items have the same key.
    """

    def __init__(
        self, sort_key: Callable[[Item], SortKey], decode_cursor: Callable[[str], SortKey | None],
        params: ListParameters, size_of: Callable[[Item], int], *, is_ascending: bool = False,
    ) -> None:  # fmt: skip
        """Begin a page of a list that is descending by `sort_key`, or ascending. Raises ApiError as `paginate` does."""
        after, before = resolve_cursors(params, decode_cursor)
        self._sort_key = sort_key
        self._size_of = size_of
        self._limit = params.limit
        self._is_ascending = is_ascending
        self._lower, self._upper = (after, before) if is_ascending else (before, after)
        self._from_smallest = (before is None) if is_ascending else (before is not None)
        self._page: list[tuple[SortKey, int, Item]] = []  # ascending
        self._bytes = 0
        self._following: SortKey | None = None  # the key of the nearest item that is not on the page

    @property
    def has_more(self) -> bool:
        """Return whether more items than those of the page were added."""
        return self._following is not None

    def begins_after(self, key: SortKey) -> bool:
        """Return whether all items on the page have greater keys."""
        return self._lower is not None and self._lower >= key

    def ends_before(self, key: SortKey) -> bool:
        """Return whether no item with this key or a greater one changes the page any more."""
        ends_at_cursor = self._upper is not None and self._upper <= key
        return ends_at_cursor or (self._from_smallest and self._following is not None and self._following <= key)

    def add_all(self, items: Iterable[Item]) -> None:
        """Add items of the list, in any order."""
        for item in items:
            self.add(item)

    def add(self, item: Item) -> None:
        """Add an item of the list, if it is on the page so far."""
        key, following = self._sort_key(item), self._following
        if (self._lower is not None and key <= self._lower) or (self._upper is not None and key >= self._upper):
            return
        if following is not None and (key > following if self._from_smallest else key < following):
            return
        size = self._size_of(item)
        insort(self._page, (key, size, item), key=itemgetter(0))
        self._bytes += size
        farthest = -1 if self._from_smallest else 0
        while len(self._page) > self._limit or (len(self._page) > 1 and self._bytes > MAX_PAGE_BYTES):
            self._following, size, _ = self._page.pop(farthest)
            self._bytes -= size

    def items(self) -> list[Item]:
        """Return the items of the page, in the order of the list."""
        return [item for _, _, item in (self._page if self._is_ascending else reversed(self._page))]


def paginate_unsorted(
    items: Iterable[Item], sort_key: Callable[[Item], SortKey], decode_cursor: Callable[[str], SortKey | None],
    params: ListParameters, size_of: Callable[[Item], int], *, is_ascending: bool = False,
) -> tuple[list[Item], bool]:  # fmt: skip
    """Return the page of items that `paginate` and `limit_page_size` return for sorted ones. See UnsortedPage."""
    page = UnsortedPage(sort_key, decode_cursor, params, size_of, is_ascending=is_ascending)
    page.add_all(items)
    return page.items(), page.has_more


def read_in_parts(
    read_after: Callable[[Item | None, int], Sequence[Item]], size_of: Callable[[Item], int], max_items: int
) -> Iterator[Item]:
    """Yield up to `max_items` items. They are read in parts that are small if items are large, to limit memory.

    `read_after` returns up to a number of items after an item, or from the first one. Raises QueryInterrupted between
    two parts if the query has to stop, however few of the items its caller returns.
    """
    last: Item | None = None
    count = min(_FIRST_PART, max_items)
    while count:
        check_interruption()
        part = read_after(last, count)
        yield from part
        max_items -= len(part)
        if len(part) < count:
            return
        last = part[-1]
        part_bytes = sum(size_of(item) for item in part) + 1
        count = min(max(_PART_BYTES * len(part) // part_bytes, 1), _MAX_PART, max_items)


def page_within_size(items: Iterable[Item], limit: int, size_of: Callable[[Item], int]) -> tuple[list[Item], bool]:
    """Return up to `limit` items of a page of at most MAX_PAGE_BYTES, and whether more items follow it."""
    page: list[Item] = []
    free_bytes = MAX_PAGE_BYTES
    for item in items:
        free_bytes -= size_of(item)
        if len(page) == limit or (page and free_bytes < 0):
            return page, True
        page.append(item)
    return page, False


def limit_page_size(
    page: Sequence[Item], params: ListParameters, size_of: Callable[[Item], int]
) -> tuple[Sequence[Item], bool]:
    """Return the items of a page that fit in MAX_PAGE_BYTES, nearest to its cursor, and whether others were cut off."""
    if params.ending_before is None:
        return page_within_size(page, params.limit, size_of)
    reversed_page, is_cut = page_within_size(reversed(page), params.limit, size_of)
    return reversed_page[::-1], is_cut


def resolve_cursors(
    params: ListParameters, decode_cursor: Callable[[str], Cursor | None]
) -> tuple[Cursor | None, Cursor | None]:
    """Return the cursors `starting_after` and `ending_before`. Raises ApiError if both are set or one is invalid."""
    after = _resolve_cursor("starting_after", params.starting_after, decode_cursor)
    before = _resolve_cursor("ending_before", params.ending_before, decode_cursor)
    if after is not None and before is not None:
        raise ApiError(400, "Send either starting_after or ending_before, not both.", code="parameter_invalid")
    return after, before


def cursor_not_found(param: str, object_id: str) -> ApiError:
    """Return the error for a cursor that does not identify an item of the list."""
    return invalid_parameter(param, f"Invalid {param}: '{object_id}' is not an item of this list.", "resource_missing")


def list_response(data: Sequence[Any], url: str, *, has_more: bool) -> Any:
    """Return the response of a list."""
    return ListObject(data=list(data), has_more=has_more, url=url)


def _resolve_cursor(param: str, object_id: str | None, decode_cursor: Callable[[str], Cursor | None]) -> Cursor | None:
    if object_id is None:
        return None
    cursor = decode_cursor(object_id)
    if cursor is None:
        raise cursor_not_found(param, object_id)
    return cursor
