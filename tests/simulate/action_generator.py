"""The next action, chosen by the seed, among valid and invalid actions on the current ledger."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from tallybook.application import Metering

from . import queries
from .generations import ChangeRules, Diff, Drop, GenerationSnapshot, Promote, Rebuild
from .meters import Configure, Manage
from .model import Bounds, EventInput, LedgerModel, Meter, Row, bounds_of
from .outcomes import OperationResult
from .periods import Close, Reopen
from .rules import Rules
from .usage import Cancel, Record

START = datetime(2026, 3, 27, 22, tzinfo=UTC)  # two days before the DST change in Berlin
METERS = ("tokens", "gb/s 100%", 'Zähler "x" 🪙', "seats", "a")
CUSTOMERS = ("acme", "ACME", "Zoë & Søn/%2F", "日本支店", " acme ", "a very long name " * 20)
NUMBERS = ("0", "1", "2.5", "-3", "0.1", "-0.1", "40", "1.50", "-0", "999999999999999", "-0.000000000001", "7")
INVALID_NUMBERS = ("1e3", "abc", "+5", "", "1234567890123456", " 1", "\N{ARABIC-INDIC DIGIT ONE}")
CUSTOMER_KEYS, VALUE_KEYS = ("customer", 'the account\'s "key"'), ("value", "menge in kB")
DIMENSION_KEYS, OPTIONAL_DIMENSION_KEYS = ("region", "plan.tier"), ("model",)
FILTER = {"key": "plan.tier", "equals": "paid"}
FORMULAS = ("sum", "sum", "count", "count", "last", "last", "max", "min", "avg", "unique_count")
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu")
ALL_TIME = START - timedelta(days=60), START + timedelta(days=400)


class Action(Protocol):
    """An operation on a ledger, and the check of its result."""

    def run(self, metering: Metering) -> Any:
        """Run the operation."""
        ...

    def check(self, result: OperationResult) -> None:
        """Raise ModelMismatch if the result is not allowed by the model."""
        ...


class ActionGenerator:
    """Chooses random actions."""

    def __init__(self, rng: random.Random, model: LedgerModel) -> None:
        self.rng = rng
        self.model = model
        self.identifiers = 0

    def action(self, metering: Metering, now: datetime) -> Action:
        """Return a random action for the time `now`."""
        if len(self.meters) < 2 or self.rng.random() < 0.02:
            return self._configure()
        kinds: Mapping[Callable[[datetime], Action], int] = {
            self._record: 40, self._cancel: 14, self._query: 12, self._close: 8, self._reopen: 3, self._manage: 5,
            self._change_rules: 6, self._rebuild: 2,
        }  # fmt: skip
        on_generations: Mapping[Callable[[Metering], Action], int] = {
            self._promote: 4, self._diff: 2, self._drop: 2,
        }  # fmt: skip
        (chosen,) = self.rng.choices([*kinds, *on_generations], [*kinds.values(), *on_generations.values()])
        return chosen(now) if chosen in kinds else chosen(metering)  # pyright: ignore[reportArgumentType]

    def concurrent_action(self, action: Action, metering: Metering, now: datetime) -> Action:
        """Return an action for another process to run during `action`: usually one that conflicts with it."""
        event_name = getattr(action, "event_name", None) or self._meter().name
        candidates: list[Action] = [action, Manage("deactivate", event_name), Manage("rename", event_name, "Moved")]
        match action:
            case Record(events):
                candidates.append(Record((self.rng.choice(events),)))
                candidates.append(Manage("deactivate", events[0].event_name))
            case Close(_, customer, bounds):
                candidates.append(Close(event_name, customer, (bounds[0], bounds[1] + timedelta(hours=1))))
                candidates.append(Reopen(event_name, customer, bounds))
                candidates.append(self._cancel(now))
            case Promote() | ChangeRules() | Rebuild() | Diff() | Drop():
                candidates = [
                    self._refresh_snapshot(action, metering),
                    self._record(now),
                    self._change_rules(now),
                    self._promote(metering),
                    self._drop(metering),
                ]
            case _:
                pass
        return self.rng.choice(candidates) if self.rng.random() < 0.6 else self.action(metering, now)

    def query(self) -> queries.Query:
        """Return a random query."""
        meter, customer = self._meter().name, self.rng.choice((None, *CUSTOMERS))
        bounds, as_of = self.bounds(), self.rng.choice((None, None, self.rng.randint(0, self.model.head)))
        factories: Sequence[Callable[[], queries.Query]] = (
            lambda: queries.total(meter, customer, bounds, as_of),
            lambda: queries.totals(meter, bounds, as_of),
            lambda: queries.explanation(meter, customer, bounds, as_of),
            lambda: queries.summaries(
                meter, customer, bounds, self.rng.choice(("hour", "day", "month")), self.rng.choice(ZONES)
            ),
            lambda: queries.adjustments(meter),
            lambda: queries.closed_periods(meter, as_of),
            lambda: queries.events(meter),
            queries.meters,
            queries.catch_up,
            queries.verify,
        )
        (factory,) = self.rng.choices(factories, (6, 4, 4, 3, 4, 1, 1, 1, 1, 2))
        return factory()

    def bounds(self) -> Bounds:
        """Return a range: all time, or some hours from a start on or off an hour boundary."""
        if self.rng.random() < 0.4:
            return ALL_TIME
        start = self.time_near(START + timedelta(hours=self.rng.randint(0, 48)))
        return start, start + timedelta(hours=self.rng.choice((0, 1, 5, 24, 30)), minutes=self.rng.choice((0, 0, 7)))

    def time_near(self, moment: datetime) -> datetime:
        """Return a time on or close to an hour boundary."""
        hour = moment.replace(minute=0, second=0, microsecond=0)
        return hour + self.rng.choice((timedelta(0), timedelta(0), -timedelta(microseconds=1), timedelta(minutes=30)))

    @property
    def meters(self) -> list[Meter]:
        """The current meters, sorted by name."""
        return [meter for _, meter in sorted(self.model.meters(self.model.head).items())]

    def _meter(self) -> Meter:
        return self.rng.choice(self.meters)

    # --- meters -----------------------------------------------------------------------------------

    def _configure(self, _: datetime | None = None) -> Action:
        display_name = self.rng.choice((None, None, "Shown 🙂"))
        return Configure(self.rng.choice(METERS), self._rules(), display_name)

    def _rules(self) -> Rules:
        choice = self.rng.choice
        return Rules(
            choice(FORMULAS), choice((None, "hour", "day")), choice((*CUSTOMER_KEYS, CUSTOMER_KEYS[0])),
            choice((*VALUE_KEYS, VALUE_KEYS[0])), choice(((), (), DIMENSION_KEYS[:1], DIMENSION_KEYS)),
            choice(((), (), OPTIONAL_DIMENSION_KEYS)), choice((None, None, None, FILTER)),
            choice((None, None, "1/3", "1000")),
        )  # fmt: skip

    def _manage(self, _: datetime) -> Action:
        event_name = self.rng.choice((*METERS, *(meter.name for meter in self.meters)))
        command = self.rng.choice(("rename", "deactivate", "reactivate", "reactivate"))
        return Manage(command, event_name, f"Name {self.rng.randint(1, 3)} ✓")

    # --- usage ------------------------------------------------------------------------------------

    def _record(self, now: datetime) -> Action:
        count = self.rng.choice((1, 1, 2, 4, 9))
        events: list[EventInput] = []
        for _ in range(count):
            repeat_chance = self.rng.random()
            if repeat_chance < 0.12 and self.model.head:
                events.append(self._repeated_event())
            elif repeat_chance < 0.2 and events:
                events.append(self.rng.choice(events))
            else:
                events.append(self._event_input(now))
        return Record(tuple(events))

    def _event_input(self, now: datetime) -> EventInput:
        meter = self._meter()
        payload = {
            **{key: self.rng.choice(CUSTOMERS[:3] if self.rng.random() < 0.8 else CUSTOMERS) for key in CUSTOMER_KEYS},
            **{key: self.rng.choice(NUMBERS) for key in VALUE_KEYS},
            "region": self.rng.choice(("eu", "us", 'ü"/|,')),
            "plan.tier": self.rng.choice(("free", "paid")),
        }
        if self.rng.random() < 0.7:
            payload["model"] = self.rng.choice(("small", "large", ""))
        if self.rng.random() < 0.05:
            payload[self.rng.choice(VALUE_KEYS)] = self.rng.choice(INVALID_NUMBERS)
        if self.rng.random() < 0.06:
            del payload[self.rng.choice(sorted(payload))]
        name = "no such meter" if self.rng.random() < 0.02 else meter.name
        return EventInput(name, payload, self._identifier(), self._timestamp(now))

    def _identifier(self) -> str | None:
        self.identifiers += 1
        kind_chance = self.rng.random()
        if kind_chance < 0.1:
            return None
        if kind_chance < 0.12:
            return "x" * 101
        return f"{self.rng.choice(('req', 'Ü/%', 'z'))}-{self.identifiers}"

    def _timestamp(self, now: datetime) -> datetime | None:
        kind_chance = self.rng.random()
        if kind_chance < 0.1:
            return None
        if kind_chance < 0.13:
            return now + self.rng.choice((-1, 1)) * timedelta(days=self.rng.choice((34, 36)))
        if kind_chance < 0.16:
            return now + timedelta(minutes=self.rng.choice((4, 5, 6)))
        return self.time_near(now - timedelta(hours=self.rng.choice((0, 0, 1, 2, 3, 24, 25, 26))))

    def _repeated_event(self) -> EventInput:
        """Return a meter event with an identifier that exists: a duplicate or a conflict."""
        rows = list(self.model.rows_of("UsageRecorded", until=self.model.head))
        if not rows:
            return self._event_input(START)
        fields, identifier = (row := self.rng.choice(rows)).fields, row.identifier
        occurred_at = datetime.fromisoformat(fields["occurred_at"])
        payload = dict(fields["payload"])
        if self.rng.random() < 0.4:
            payload[VALUE_KEYS[0]] = self.rng.choice(NUMBERS)
        return EventInput(fields["event_name"], payload, identifier, self.rng.choice((occurred_at, occurred_at, None)))

    def _cancel(self, _: datetime) -> Action:
        rows = list(self.model.rows_of("UsageRecorded", until=self.model.head))
        if not rows or self.rng.random() < 0.04:
            return Cancel(self._meter().name, "no such identifier")
        row = self.rng.choice(rows[-12:] if self.rng.random() < 0.5 else self._in_closed_periods(rows) or rows)
        event_name = self._meter().name if self.rng.random() < 0.05 else row.fields["event_name"]
        return Cancel(event_name, row.identifier, self.rng.choice((None, "a test")))

    def _in_closed_periods(self, rows: list[Row]) -> list[Row]:
        """Return the usage rows inside closed periods of any customer."""
        closed_rows = list(self.model.rows_of("PeriodClosed", until=self.model.head))
        return [
            row
            for row in rows
            for closed_row in closed_rows
            if closed_row.fields["event_name"] == row.fields["event_name"]
            if closed_row.fields["start"] <= row.fields["occurred_at"] < closed_row.fields["end"]
        ]

    # --- queries, periods, generations ----------------------------------------------------------

    def _query(self, _: datetime) -> Action:
        return self.query()

    def _close(self, now: datetime) -> Action:
        """Return a close of a period: usually one that has ended and contains usage."""
        meter, customer = self._meter(), self.rng.choice(CUSTOMERS[:4])
        entries = [candidate for candidate in self.model.entries(meter.name, self.model.head) if not candidate.cancels]
        if not entries or self.rng.random() < 0.3:
            start = _midnight(now) - timedelta(hours=self.rng.choice((0, 6, 24, 24, 30, 48)))
            return Close(meter.name, customer, (start, start + timedelta(hours=self.rng.choice((6, 24, 24, 48)))))
        entry = self.rng.choice(entries[-10:])
        start = self.rng.choice(
            (_midnight(entry.occurred_at), entry.occurred_at.replace(minute=0, second=0, microsecond=0))
        )
        hours = self.rng.choice((1, 2, 24)) if entry.occurred_at - start < timedelta(hours=1) else 24
        return Close(meter.name, entry.customer, (start, start + timedelta(hours=hours)))

    def _reopen(self, now: datetime) -> Action:
        closed_rows = [
            row for meter in self.meters for row in self.model.closed_rows(meter.name, None, self.model.head)
        ]
        if not closed_rows or self.rng.random() < 0.1:
            return Reopen(self._meter().name, "acme", (now - timedelta(hours=1), now))
        row = self.rng.choice(closed_rows)
        return Reopen(row.fields["event_name"], row.fields["customer"], bounds_of(row))

    def _change_rules(self, _: datetime) -> Action:
        meter, new_rules = self._meter(), self._rules().arguments
        fields = self.rng.sample(sorted(new_rules), self.rng.choice((1, 1, 2, 5)))
        name = "no such meter" if self.rng.random() < 0.03 else meter.name
        return ChangeRules(name, {field: new_rules[field] for field in fields}, is_dry_run=self.rng.random() < 0.5)

    def _rebuild(self, _: datetime) -> Action:
        if self.rng.random() < 0.5:
            return Rebuild({})
        return Rebuild({meter.name: {"formula": self._rules().formula} for meter in self.meters[:2]})

    def _generation_snapshot(self, metering: Metering) -> GenerationSnapshot:
        generations = metering.generations.list()
        if self.rng.random() < 0.06:
            return GenerationSnapshot(generations[-1].number + 1, None, {})
        return GenerationSnapshot.from_view(self.rng.choice(generations))

    def _refresh_snapshot(self, action: Action, metering: Metering) -> Action:
        """Return the same action on the current state of its generation."""
        if not isinstance(action, Promote | Diff | Drop):
            return action
        matches = [view for view in metering.generations.list() if view.number == action.snapshot.number]
        return replace(
            action,
            snapshot=GenerationSnapshot.from_view(matches[0])
            if matches
            else GenerationSnapshot(action.snapshot.number, None, {}),
        )

    def _promote(self, metering: Metering) -> Action:
        return Promote(self._generation_snapshot(metering), self.rng.choice(("a test", "a test", None)))

    def _diff(self, metering: Metering) -> Action:
        return Diff(self._generation_snapshot(metering))

    def _drop(self, metering: Metering) -> Action:
        return Drop(self._generation_snapshot(metering))


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
