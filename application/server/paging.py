"""Pages of lists: newest first, from a cursor that stays good whatever comes or goes meanwhile."""

from collections.abc import Callable, Sequence
from operator import gt, lt
from typing import Any, TypeVar

from .refusals import Refusal, invalid_parameter
from .wire import Listed, ListParameters

Item = TypeVar("Item")
Found = TypeVar("Found")
Place = tuple[Any, ...]


def page(
    items: Sequence[Item], place: Callable[[Item], Place], cursor: Callable[[str], Place | None],
    asked: ListParameters, *, rises: bool = False,
) -> tuple[Sequence[Item], bool]:  # fmt: skip
    """The page of `items` that is asked for, and whether there are more beyond it.

    `items` go down by their `place`, or up where the list `rises`. `cursor` gives the place that an id stands for, None
    where it is no such id: the page begins after that place, whether there still is something at it or not. Raises
    Refusal.
    """
    is_before, is_after = (lt, gt) if rises else (gt, lt)
    after, before = places(asked, cursor)
    if before is not None:
        earlier = [item for item in items if is_before(place(item), before)]
        return earlier[-asked.limit :], len(earlier) > asked.limit
    later = items if after is None else [item for item in items if is_after(place(item), after)]
    return later[: asked.limit], len(later) > asked.limit


def places(asked: ListParameters, cursor: Callable[[str], Found | None]) -> tuple[Found | None, Found | None]:
    """What a page is to begin after, and what it is to end before. Raises Refusal, also where both are given."""
    after = _place_of("starting_after", asked.starting_after, cursor)
    before = _place_of("ending_before", asked.ending_before, cursor)
    if after is not None and before is not None:
        raise Refusal(400, "starting_after and ending_before can't be given both.", code="parameter_invalid")
    return after, before


def not_in_list(param: str, given: str) -> Refusal:
    """No page begins or ends at what is given."""
    return invalid_parameter(param, f"Invalid {param}: '{given}' is nothing in this list.", "resource_missing")


def listed(data: Sequence[Any], url: str, *, has_more: bool) -> Any:
    """A page as it is answered."""
    return Listed(data=list(data), has_more=has_more, url=url)


def _place_of(param: str, given: str | None, cursor: Callable[[str], Found | None]) -> Found | None:
    if given is None:
        return None
    found = cursor(given)
    if found is None:
        raise not_in_list(param, given)
    return found
