"""The model: all rows of the ledger, and totals computed from them by plain loops.

The rows are read as JSON without the package. The model calls none of the package's rules, folds or decisions.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from ..properties.naive import (
    HistoryEntry,
    ReferenceTotals,
    cancelled_identifiers,
    compute_contributions,
    compute_quantity,
    compute_totals,
    effective,
    entries_between,
)
from .rules import Rules

MAX_AGE, MAX_AHEAD = timedelta(days=35), timedelta(minutes=5)
CANCEL_WINDOW, GRACE = timedelta(hours=24), timedelta(hours=1)
MAX_DIGITS = 15

Quantity = Fraction
Bounds = tuple[datetime, datetime]
VerdictAndContribution = tuple[str, Fraction]
"""The verdict of an event, and its contribution to the total."""


@dataclass(frozen=True)
class Row:
    """A stored event: the columns of its row, and its decoded JSON."""

    position: int
    stream: str
    version: int
    topic: str
    fields: Mapping[str, Any] = field(hash=False)

    @property
    def recorded_at(self) -> datetime:
        """The time at which the ledger recorded the event."""
        return datetime.fromisoformat(self.fields["recorded_at"])

    @property
    def identifier(self) -> str:
        """The identifier of a meter event."""
        return self.stream.removeprefix("event/")


@dataclass(frozen=True)
class Meter:
    """The state of a meter at a position."""

    name: str
    display_name: str
    rules: Rules
    revision: int
    is_active: bool


@dataclass(frozen=True)
class EventInput:
    """A meter event as submitted by a caller."""

    event_name: str
    payload: Mapping[str, str] = field(hash=False)
    identifier: str | None
    timestamp: datetime | None

    @property
    def arguments(self) -> dict[str, object]:
        """Return the event as arguments of the API."""
        return {**vars(self), "payload": dict(self.payload)}

    def matches(self, row: Row) -> bool:
        """Return whether a stored event has the content of this one."""
        return (row.fields["event_name"], row.fields["payload"]) == (self.event_name, self.payload) and (
            self.timestamp is None or self.timestamp == datetime.fromisoformat(row.fields["occurred_at"])
        )


class LedgerModel:
    """All rows of a ledger, and the state that follows from them at any position."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    @property
    def head(self) -> int:
        """The position of the newest row."""
        return len(self.rows)

    def rows_of(self, *topics: str, until: int) -> Iterator[Row]:
        """Yield the rows of some topics up to a position, in order."""
        return (row for row in self.rows[:until] if row.topic in topics)

    # --- meters -----------------------------------------------------------------------------------

    def meters(self, until: int) -> dict[str, Meter]:
        """Return the meters at a position, by event name."""
        meters_by_name: dict[str, Meter] = {}
        for row in self.rows[:until]:
            name, fields = row.stream.removeprefix("meter/"), row.fields
            if not row.stream.startswith("meter/"):
                continue
            if row.topic == "Configured":
                meters_by_name[name] = Meter(
                    name, fields["display_name"], Rules.from_fields(fields["rules"]), 1, is_active=True
                )
                continue
            changes: dict[str, Any] = {"Deactivated": {"is_active": False}, "Reactivated": {"is_active": True}}
            if row.topic == "Renamed":
                changes["Renamed"] = {"display_name": fields["display_name"]}
            if row.topic == "RulesChanged":
                changes["RulesChanged"] = {"rules": Rules.from_fields(fields["rules"]), "revision": fields["revision"]}
            meters_by_name[name] = replace(meters_by_name[name], **changes[row.topic])
        return meters_by_name

    def rules(self, meter: str, until: int) -> Rules:
        """Return the rules in force at a position; before the meter's first rules, the first ones."""
        rows = [
            row for row in self.rows_of("Configured", "RulesChanged", until=self.head) if row.stream == f"meter/{meter}"
        ]
        visible = [row for row in rows if row.position <= until]
        return Rules.from_fields((visible or rows[:1])[-1].fields["rules"])

    # --- usage ------------------------------------------------------------------------------------

    def event_row(self, identifier: str, until: int) -> Row | None:
        """Return the row of the meter event with an identifier."""
        return next((row for row in self.rows_of("UsageRecorded", until=until) if row.identifier == identifier), None)

    def cancellation_row(self, identifier: str, until: int) -> Row | None:
        """Return the row of the cancellation of an identifier."""
        return next((row for row in self.rows_of("EventCancelled", until=until) if row.identifier == identifier), None)

    def rejection_codes(self, event_input: EventInput, until: int, now: datetime) -> set[str]:
        """Return the codes that a meter event may be rejected with; empty if it is acceptable."""
        meter = self.meters(until).get(event_input.event_name)
        if meter is None:
            return {"no_meter"}
        value = meter.rules.number_text(event_input.payload) or ""
        occurred_at = event_input.timestamp or now
        policy = {
            "archived_meter": not meter.is_active,
            "meter_event_value_too_many_digits": len(re.sub("[-.]", "", value).lstrip("0")) > MAX_DIGITS,
            "timestamp_too_far_in_past": now - occurred_at > MAX_AGE,
            "timestamp_in_future": occurred_at - now > MAX_AHEAD,
        }
        return meter.rules.rejection_codes(event_input.payload) | {code for code, applies in policy.items() if applies}

    def incompatible_positions(self, meter: str, rules: Rules, until: int) -> list[int]:
        """Return the positions of the meter events that the rules can't read, cancelled or not."""
        return [
            row.position
            for row in self.rows_of("UsageRecorded", until=until)
            if row.fields["event_name"] == meter and rules.rejection_codes(row.fields["payload"])
        ]

    def entries(self, meter: str, until: int, rules: Rules | None = None) -> list[HistoryEntry]:
        """Return all meter events and cancellations of a meter, read by the rules in force then, or by other rules.

        Omit events that the rules can't read: they were recorded after a period was closed, before the rules changed.
        """
        rules_applied = rules or self.rules(meter, until)
        return [
            _meter_event(row, rules_applied) if row.topic == "UsageRecorded" else _cancel(row)
            for row in self.rows_of("UsageRecorded", "EventCancelled", until=until)
            if row.fields["event_name"] == meter and not rules_applied.rejection_codes(row.fields["payload"])
        ]

    def counted(self, meter: str, until: int, rules: Rules | None = None) -> list[HistoryEntry]:
        """Return the events that count at a position, by (occurred_at, position)."""
        by = rules or self.rules(meter, until)
        return effective(self.entries(meter, until, by), meter, by.event_time_window)

    def totals(
        self,
        meter: str,
        customer: str | None,
        bounds: Bounds,
        until: int,
        rules: Rules | None = None,
        *,
        exact: bool = False,
    ) -> ReferenceTotals:
        """Return the totals of the windows that start in a range or, if `exact`, of what occurred in it."""
        by = rules or self.rules(meter, until)
        return compute_totals(self.counted(meter, until, by), customer, *bounds, by.window_of_range(exact=exact))

    def quantity(
        self,
        meter: str,
        customer: str | None,
        bounds: Bounds,
        until: int,
        rules: Rules | None = None,
        *,
        exact: bool = False,
    ) -> Fraction:
        """Return the quantity by the meter's formula. See `totals`."""
        by = rules or self.rules(meter, until)
        counted = self.counted(meter, until, by)
        in_range = entries_between(counted, customer, *bounds, by.window_of_range(exact=exact))
        return compute_quantity(by.formula, in_range, by.multiplier)

    def verdicts(
        self,
        meter: str,
        customer: str | None,
        bounds: Bounds,
        until: int,
        rules: Rules | None = None,
        *,
        exact: bool = False,
    ) -> dict[str, VerdictAndContribution]:
        """Return the verdict of each event of a range, by identifier, in the order of (occurred_at, position)."""
        by = rules or self.rules(meter, until)
        entries, window = self.entries(meter, until, by), by.window_of_range(exact=exact)
        cancelled = cancelled_identifiers(entries)
        counted = entries_between(self.counted(meter, until, by), customer, *bounds, window)
        adds = compute_contributions(by.formula, counted, by.multiplier)

        def verdict(entry: HistoryEntry) -> str:
            if entry.identifier in cancelled:
                return "cancelled"
            if entry.is_filtered:
                return "filtered"
            return "counted" if entry.identifier in adds else "superseded"

        within = sorted(
            entries_between([entry for entry in entries if not entry.cancels], customer, *bounds, window),
            key=lambda entry: (entry.occurred_at, entry.position),
        )
        return {entry.identifier: (verdict(entry), adds.get(entry.identifier, Fraction(0))) for entry in within}

    def totals_by_month(
        self, meter: str, until: int, rules: Rules | None = None
    ) -> dict[tuple[str, datetime], Quantity]:
        """Return the quantity of each customer and month (UTC) with effective usage."""
        by = rules or self.rules(meter, until)
        counted = self.counted(meter, until, by)
        months = {
            (entry.customer, entry.occurred_at.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
            for entry in counted
        }
        return {
            (customer, start): compute_quantity(
                by.formula, entries_between(counted, customer, start, _next_month(start)), by.multiplier
            )
            for customer, start in months
        }

    def digest(
        self,
        meter: str,
        customer: str | None,
        bounds: Bounds,
        until: int,
        rules: Rules | None = None,
        *,
        exact: bool = False,
    ) -> str:
        """Return the SHA-256 of the counted events, as defined by the documentation. See `totals`."""
        by = rules or self.rules(meter, until)
        counted = entries_between(self.counted(meter, until, by), customer, *bounds, by.window_of_range(exact=exact))
        lines = (f"{entry.position},{_iso(entry.occurred_at)},{_digest_value(entry)}\n" for entry in counted)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    # --- closed periods ---------------------------------------------------------------------------

    def closed_rows(self, meter: str, customer: str | None, until: int) -> list[Row]:
        """Return the period closings in force at a position, in the order of closing."""
        closed: list[Row] = []
        for row in self.rows_of("PeriodClosed", "PeriodReopened", until=until):
            if row.fields["event_name"] != meter or customer not in (None, row.fields["customer"]):
                continue
            if row.topic == "PeriodClosed":
                closed.append(row)
            else:
                closed = [
                    closed_row
                    for closed_row in closed
                    if (closed_row.stream, bounds_of(closed_row)) != (row.stream, bounds_of(row))
                ]
        return closed

    def closing_rules(self, meter: str, customer: str, bounds: Bounds, closed_until: int, position: int) -> Rules:
        """Return the rules of a closing: of the previous closing if that was reopened, or in force at a position."""
        previous = [
            row
            for row in self.rows_of("PeriodClosed", until=closed_until)
            if (row.fields["event_name"], row.fields["customer"], bounds_of(row)) == (meter, customer, bounds)
        ]
        return Rules.from_fields(previous[-1].fields["rules"]) if previous else self.rules(meter, position)

    def check_appended(self, rows: Sequence[Row]) -> str | None:
        """Return the first error in appended rows: a gap in the positions, or in the versions of a stream; or None."""
        versions: dict[str, int] = {row.stream: row.version for row in self.rows}
        for position, row in enumerate(rows, self.head + 1):
            if row.position != position:
                return f"position {position} is missing: {row.position} follows"
            if row.version != versions.get(row.stream, 0) + 1:
                return f"version {row.version} of {row.stream} follows {versions.get(row.stream, 0)}"
            versions[row.stream] = row.version
        return None


def bounds_of(row: Row) -> Bounds:
    """Return the bounds of a period that a row closes or reopens."""
    return datetime.fromisoformat(row.fields["start"]), datetime.fromisoformat(row.fields["end"])


def counted_range_of(row: Row) -> Bounds:
    """Return the range of the usage in the totals of a row that closes a period."""
    counted_from, counted_until = row.fields.get("counted_from"), row.fields.get("counted_until")
    start, end = bounds_of(row)
    return (
        start if counted_from is None else datetime.fromisoformat(counted_from),
        end if counted_until is None else datetime.fromisoformat(counted_until),
    )


def _next_month(start: datetime) -> datetime:
    return (start + timedelta(days=32)).replace(day=1)


def _meter_event(row: Row, rules: Rules) -> HistoryEntry:
    occurred_at = datetime.fromisoformat(row.fields["occurred_at"])
    entry = HistoryEntry(
        row.position, row.recorded_at, row.identifier, row.fields["event_name"], occurred_at=occurred_at
    )
    return rules.apply(entry, row.fields["payload"])


def _cancel(row: Row) -> HistoryEntry:
    return HistoryEntry(row.position, row.recorded_at, row.identifier, cancels=True)


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _digest_value(entry: HistoryEntry) -> str:
    """Return the value in a line of a digest: a plain number, or a unique value as JSON."""
    if entry.unique_value is not None:
        return json.dumps(entry.unique_value, ensure_ascii=False)
    value = entry.value
    if value is None:
        return ""
    return value.removeprefix("-") if not value.strip("-0.") else value
