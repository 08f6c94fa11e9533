"""Entries of the history as text: how an event reached the ledger, and its reason and effect."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..history_results import HistoryEntry


def format_via(entry: "HistoryEntry") -> str:
    """Return how an event reached the ledger."""
    author = entry.author
    if author.via is None:
        return "not recorded"
    detail = author.request_id or author.import_run or (author.system_user and f"as {author.system_user}")
    return f"{author.via} {detail}" if detail else author.via


def format_effect(entry: "HistoryEntry") -> str:
    """Return the reason of an event, what it changed in the rules, and the limits that it was accepted beyond."""
    parts = [] if entry.reason is None else [entry.reason]
    parts += [f"{name}: {_compact(before)} to {_compact(after)}" for name, (before, after) in entry.changed.items()]
    if "effective_from" in entry.details:
        parts.append(f"for usage from {entry.details['effective_from']} on")
    if "archive" in entry.details:
        parts.append(f"usage up to position {entry.details['position']} is in {entry.details['archive']}")
    parts += [f"{limit} {value or 'lifted'}" for limit, value in entry.accepted_under.items()]
    return "; ".join(parts)


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
