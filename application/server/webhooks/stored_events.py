"""The events of one ledger: found by their ids, and listed by their types, newest first."""

from collections.abc import Sequence
from heapq import merge
from itertools import islice
from operator import attrgetter

from ...stores.kept import Keeper, KeptRow


def find(keeper: Keeper, event_id: str, types: Sequence[str]) -> KeptRow | None:
    """The event with an id, if it is of one of these types."""
    for type_ in types:
        found = keeper.get(type_, [event_id]).get(event_id)
        if found is not None:
            return found
    return None


def newest(
    keeper: Keeper, types: Sequence[str], limit: int, *, older_than: str | None = None, newer_than: str | None = None
) -> tuple[list[KeptRow], bool]:
    """Up to `limit` events of these types, newest first, and whether there are more beyond them.

    They begin after the id `older_than`; or end before the id `newer_than`, next to it.
    """
    is_up = newer_than is not None
    each = [keeper.select(one, after=newer_than or older_than, limit=limit + 1, newest_first=not is_up)
            for one in dict.fromkeys(types)]  # fmt: skip
    rows = list(islice(merge(*each, key=attrgetter("key"), reverse=not is_up), limit + 1))
    chosen = rows[:limit]
    return (chosen[::-1] if is_up else chosen), len(rows) > limit
