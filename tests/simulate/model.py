"""What must be so: everything that the ledger holds, row by row, and figures counted from it by plain loops.

The rows are read past the package, as JSON. Nothing here calls its rules, its fold or its decisions.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from ..properties.naive import Figures, Said, effective, figures

MAX_AGE, MAX_AHEAD = timedelta(days=35), timedelta(minutes=5)
CANCEL_WINDOW, GRACE = timedelta(hours=24), timedelta(hours=1)
MAX_DIGITS = 15

Quantity = Fraction
Bounds = tuple[datetime, datetime]
Stand = tuple[str, Fraction]
"""The verdict of an event, and what it adds to the figure."""


@dataclass(frozen=True)
class Row:
    """A stored event as it lies in the ledger, and what its JSON says."""

    position: int
    stream: str
    version: int
    topic: str
    said: Mapping[str, Any] = field(hash=False)

    @property
    def recorded_at(self) -> datetime:
        """When the ledger learnt of it."""
        return datetime.fromisoformat(self.said["recorded_at"])

    @property
    def identifier(self) -> str:
        """The identifier of a meter event."""
        return self.stream.removeprefix("event/")


@dataclass(frozen=True)
class Rules:
    """Rules, and how they read a payload; the names of its fields are those that the calls take."""

    formula: str = "sum"
    event_time_window: str | None = None
    customer_key: str = "stripe_customer_id"
    value_key: str = "value"
    dimension_keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "Rules":
        """The rules of a stored event."""
        return replace(cls(**said), dimension_keys=tuple(said["dimension_keys"]))

    @property
    def arguments(self) -> dict[str, Any]:
        """The rules as the calls take them."""
        return dict(vars(self))

    def refusals(self, payload: Mapping[str, str]) -> set[str]:
        """The codes that a payload may be refused with."""
        text = payload.get(self.value_key)
        found = {
            "payload_no_customer_defined": not payload.get(self.customer_key),
            "payload_no_value_defined": text is None and self.formula != "count",
            "payload_invalid_value": text is not None and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text) is None,
            "missing_dimension_payload_keys": not set(self.dimension_keys) <= payload.keys(),
        }
        return {code for code, is_so in found.items() if is_so}

    def read(self, row: Row) -> Said:
        """A use as these rules read it."""
        payload = row.said["payload"]
        return Said(
            row.position,
            row.recorded_at,
            row.identifier,
            row.said["event_name"],
            payload[self.customer_key],
            datetime.fromisoformat(row.said["occurred_at"]),
            payload.get(self.value_key),
            tuple(payload[key] for key in self.dimension_keys),
        )


@dataclass(frozen=True)
class Meter:
    """A meter as it was at a position."""

    name: str
    display_name: str
    rules: Rules
    revision: int
    is_active: bool


@dataclass(frozen=True)
class Report:
    """A report as it is handed in."""

    event_name: str
    payload: Mapping[str, str] = field(hash=False)
    identifier: str | None
    timestamp: datetime | None

    @property
    def given(self) -> dict[str, object]:
        """The report as the calls take it."""
        return {**vars(self), "payload": dict(self.payload)}

    def is_said_by(self, row: Row) -> bool:
        """Whether a stored use is of this report's content."""
        return (row.said["event_name"], row.said["payload"]) == (self.event_name, self.payload) and (
            self.timestamp is None or self.timestamp == datetime.fromisoformat(row.said["occurred_at"])
        )


class Book:
    """All rows of a ledger, and what follows from those up to any position."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    @property
    def head(self) -> int:
        """The position of the newest row."""
        return len(self.rows)

    def of(self, *topics: str, until: int) -> Iterator[Row]:
        """The rows of some topics up to a position, in order."""
        return (row for row in self.rows[:until] if row.topic in topics)

    # --- meters -----------------------------------------------------------------------------------

    def meters(self, until: int) -> dict[str, Meter]:
        """The meters at a position, by event name."""
        found: dict[str, Meter] = {}
        for row in self.rows[:until]:
            name, said = row.stream.removeprefix("meter/"), row.said
            if not row.stream.startswith("meter/"):
                continue
            if row.topic == "Configured":
                found[name] = Meter(name, said["display_name"], Rules.of(said["rules"]), 1, is_active=True)
                continue
            changes: dict[str, Any] = {"Deactivated": {"is_active": False}, "Reactivated": {"is_active": True}}
            if row.topic == "Renamed":
                changes["Renamed"] = {"display_name": said["display_name"]}
            if row.topic == "RulesChanged":
                changes["RulesChanged"] = {"rules": Rules.of(said["rules"]), "revision": said["revision"]}
            found[name] = replace(found[name], **changes[row.topic])
        return found

    def rules(self, meter: str, until: int) -> Rules:
        """The rules in force at a position; the first ones before there were any."""
        rows = [row for row in self.of("Configured", "RulesChanged", until=self.head) if row.stream == f"meter/{meter}"]
        known = [row for row in rows if row.position <= until]
        return Rules.of((known or rows[:1])[-1].said["rules"])

    # --- usage ------------------------------------------------------------------------------------

    def held(self, identifier: str, until: int) -> Row | None:
        """The use recorded under an identifier."""
        return next((row for row in self.of("UsageRecorded", until=until) if row.identifier == identifier), None)

    def cancel_of(self, identifier: str, until: int) -> Row | None:
        """The cancel of an identifier."""
        return next((row for row in self.of("EventCancelled", until=until) if row.identifier == identifier), None)

    def refusals(self, report: Report, until: int, now: datetime) -> set[str]:
        """The codes that a report may be refused with; none where it is acceptable."""
        meter = self.meters(until).get(report.event_name)
        if meter is None:
            return {"no_meter"}
        value = report.payload.get(meter.rules.value_key, "")
        occurred_at = report.timestamp or now
        policy = {
            "archived_meter": not meter.is_active,
            "meter_event_value_too_many_digits": len(re.sub("[-.]", "", value).lstrip("0")) > MAX_DIGITS,
            "timestamp_too_far_in_past": now - occurred_at > MAX_AGE,
            "timestamp_in_future": occurred_at - now > MAX_AHEAD,
        }
        return meter.rules.refusals(report.payload) | {code for code, is_so in policy.items() if is_so}

    def unreadable(self, meter: str, rules: Rules, until: int) -> list[int]:
        """The positions of the uses that rules can't read, cancelled or not."""
        return [
            row.position
            for row in self.of("UsageRecorded", until=until)
            if row.said["event_name"] == meter and rules.refusals(row.said["payload"])
        ]

    def uses(self, meter: str, until: int, rules: Rules | None = None) -> list[Said]:
        """All uses of a meter and their cancels, as the rules in force then, or others, read them.

        What these can't read is not there: that was recorded after a period was closed under them, and others came.
        """
        by = rules or self.rules(meter, until)
        return [
            by.read(row) if row.topic == "UsageRecorded" else _cancel(row)
            for row in self.of("UsageRecorded", "EventCancelled", until=until)
            if row.said["event_name"] == meter and not by.refusals(row.said["payload"])
        ]

    def counting(self, meter: str, until: int, rules: Rules | None = None) -> list[Said]:
        """The uses that count at a position, by (occurred_at, position)."""
        by = rules or self.rules(meter, until)
        return effective(self.uses(meter, until, by), meter, by.event_time_window)

    def figures(
        self, meter: str, customer: str | None, bounds: Bounds, until: int, rules: Rules | None = None
    ) -> Figures:
        """Sum, count and last."""
        return figures(self.counting(meter, until, rules), customer, *bounds)

    def quantity(
        self, meter: str, customer: str | None, bounds: Bounds, until: int, rules: Rules | None = None
    ) -> Fraction:
        """The figure by the formula."""
        by = rules or self.rules(meter, until)
        return quantity_of(self.figures(meter, customer, bounds, until, by), by.formula)

    def stands(
        self, meter: str, customer: str | None, bounds: Bounds, until: int, rules: Rules | None = None
    ) -> dict[str, Stand]:
        """How each event of a range stands, by its identifier, in the order of (occurred_at, position)."""
        by = rules or self.rules(meter, until)
        uses = self.uses(meter, until, by)
        cancelled = {one.identifier for one in uses if one.cancels}
        counting = [one for one in effective(uses, meter, by.event_time_window) if _is_in(one, customer, bounds)]
        adds = {one.identifier: _adds(one, counting, by.formula) for one in counting}
        within = sorted(
            (one for one in uses if not one.cancels and _is_in(one, customer, bounds)),
            key=lambda one: (one.occurred_at, one.position),
        )
        return {
            one.identifier: ("counted", adds[one.identifier])
            if one.identifier in adds
            else ("cancelled" if one.identifier in cancelled else "overwritten", Fraction(0))
            for one in within
        }

    def by_month(self, meter: str, until: int, rules: Rules | None = None) -> dict[tuple[str, datetime], Quantity]:
        """The figure of each customer and month (UTC) with usage that counts."""
        by = rules or self.rules(meter, until)
        counting = self.counting(meter, until, by)
        months = {
            (one.customer, one.occurred_at.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
            for one in counting
        }
        return {
            (customer, start): quantity_of(figures(counting, customer, start, _next_month(start)), by.formula)
            for customer, start in months
        }

    def digest(self, meter: str, customer: str | None, bounds: Bounds, until: int) -> str:
        """The SHA-256 of what counted, as the documentation defines it."""
        counting = [one for one in self.counting(meter, until) if _is_in(one, customer, bounds)]
        lines = (f"{one.position},{_iso(one.occurred_at)},{_plain(one.value)}\n" for one in counting)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    # --- closed periods ---------------------------------------------------------------------------

    def standing(self, meter: str, customer: str | None, until: int) -> list[Row]:
        """The closings that stand at a position, in the order of their closing."""
        found: list[Row] = []
        for row in self.of("PeriodClosed", "PeriodReopened", until=until):
            if row.said["event_name"] != meter or customer not in (None, row.said["customer"]):
                continue
            if row.topic == "PeriodClosed":
                found.append(row)
            else:
                found = [one for one in found if (one.stream, bounds_of(one)) != (row.stream, bounds_of(row))]
        return found

    def check_appended(self, rows: Sequence[Row]) -> str | None:
        """What is wrong with rows to be added: each comes next in the ledger, and next in its stream."""
        versions: dict[str, int] = {row.stream: row.version for row in self.rows}
        for position, row in enumerate(rows, self.head + 1):
            if row.position != position:
                return f"position {position} is missing: {row.position} follows"
            if row.version != versions.get(row.stream, 0) + 1:
                return f"version {row.version} of {row.stream} follows {versions.get(row.stream, 0)}"
            versions[row.stream] = row.version
        return None


def bounds_of(row: Row) -> Bounds:
    """The period of a closing or a reopening."""
    return datetime.fromisoformat(row.said["start"]), datetime.fromisoformat(row.said["end"])


def quantity_of(found: Figures, formula: str) -> Fraction:
    """What a formula makes of sum, count and last."""
    total, count, last = found
    return {"sum": total, "count": Fraction(count), "last": last or Fraction(0)}[formula]


def _next_month(start: datetime) -> datetime:
    return (start + timedelta(days=32)).replace(day=1)


def _cancel(row: Row) -> Said:
    return Said(row.position, row.recorded_at, row.identifier, cancels=True)


def _is_in(one: Said, customer: str | None, bounds: Bounds) -> bool:
    return customer in (None, one.customer) and bounds[0] <= one.occurred_at < bounds[1]


def _adds(one: Said, counting: Sequence[Said], formula: str) -> Fraction:
    value = Fraction(one.value or 0)
    return {"sum": value, "count": Fraction(1), "last": value if one is counting[-1] else Fraction(0)}[formula]


def _iso(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _plain(value: str | None) -> str:
    if value is None:
        return ""
    return value.removeprefix("-") if not value.strip("-0.") else value
