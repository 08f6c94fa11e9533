"""Errors for names that do not exist, with suggestions."""

from collections.abc import Iterable
from datetime import datetime
from difflib import get_close_matches
from itertools import islice

from ..domain.errors import MeterNotFound
from ..domain.timestamps import to_iso

MAX_COMPARED_NAMES = 1_000
_MAX_SUGGESTIONS = 3


def suggest_names(noun: str, name: str, names: Iterable[str]) -> str:
    """Return a sentence like " Similar meters: tokens, token_count." with up to three names; "" if none is similar.

    It starts with a space, so that it can be appended to an error message. Compares at most 1,000 names.
    """
    similar = get_close_matches(name, list(islice(names, MAX_COMPARED_NAMES)), n=_MAX_SUGGESTIONS)
    return f" Similar {noun}: {', '.join(similar)}." if similar else ""


def meter_not_found(event_name: str, names: Iterable[str]) -> MeterNotFound:
    """Return the error for a meter that does not exist, with those of `names` that are similar."""
    return MeterNotFound(
        f"There is no meter {event_name!r}; configure it first.{suggest_names('meters', event_name, names)}",
        field="event_name",
        value=event_name,
    )


def meter_not_found_then(event_name: str, configured_at: datetime) -> MeterNotFound:
    """Return the error for a meter that was configured after the `as_of` of a call."""
    return MeterNotFound(
        f"The meter {event_name!r} did not exist then; it was configured at {to_iso(configured_at)}.",
        field="event_name",
        value=event_name,
    )
