"""The notation of the scenarios: what was reported, a line each, and what is answered then.

A line is one of

    meter   seats  last per hour  by region,plan
    10:05   acme seats 10  id=a  region=eu         a report, recorded when it occurred, or now where that is past
    10:05   acme seats 10  recorded=10:50          a report, recorded at another time
    now     acme seats 10  id=a                    a report without a timestamp
    cancel  b  at=10:45  of=seats  reason=error    a cancel, now or later; the meter is that of the report
    close   acme seats 10 11  at=11T02:00          10 November is closed, now or later
    reopen  acme seats 10 11  reason=error  by=ops a closed period may be closed anew
    deactivate seats        reactivate seats       rename seats Chairs
    change  seats  sum per day by region           other rules, by replay; customer=account and value=size name keys

Lines are in order of arrival, and the clock never goes back. A time is `10:05` on 10 November 2026, `11T10:05` in that
November or `11` at its midnight, or in full, `2026-03-29T01:30`; all in UTC. `-` is a value that is left out.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from typing import cast
from zoneinfo import ZoneInfo

from tallybook.application import Explanation, Metering, TallybookError, Total, Verdict

NOVEMBER = "2026-11-"
DAY = "2026-11-10T"
YEAR = "2026-01-01T00:00 2027-01-01T00:00"
OPTIONS = {"id", "recorded", "at", "of", "reason", "by"}


def moment(text: str) -> datetime:
    """The time that `text` stands for."""
    in_full = text if text[4:5] == "-" else (DAY if ":" in text and "T" not in text else NOVEMBER) + text
    return datetime.fromisoformat(in_full).replace(tzinfo=UTC)


class Clock:
    """A clock that stands where it is put."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class Ledger:
    """A ledger that is told in the notation, and asked in it."""

    def __init__(self, metering: Metering, clock: Clock) -> None:
        self.metering = metering
        self.clock = clock
        self.answers: list[str] = []
        self._meter_of: dict[str, str] = {}

    # --- given, when ------------------------------------------------------------------------------

    def given(self, lines: str) -> "Ledger":
        """Let all of this happen; none of it is refused."""
        for line in _lines(lines):
            self._do(line)
        return self

    def when(self, lines: str) -> "Ledger":
        """Let this happen and remember what each line is answered: the outcome, or the code of its refusal."""
        self.answers = [self._answer(line) for line in _lines(lines)]
        return self

    def position(self) -> int:
        """The position of the newest event."""
        return self.metering.catch_up()

    def _answer(self, line: str) -> str:
        try:
            return self._do(line)
        except TallybookError as error:
            return error.code

    def _do(self, line: str) -> str:
        verb, *words = line.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        commands: dict[str, Callable[[list[str], dict[str, str]], str]] = {
            "meter": self._configure,
            "cancel": self._cancel,
            "close": self._close,
            "reopen": self._reopen,
            "change": self._change,
            "deactivate": lambda plain, _: self.metering.deactivate_meter(plain[0]).status,
            "reactivate": lambda plain, _: self.metering.reactivate_meter(plain[0]).status,
            "rename": lambda plain, _: self.metering.rename_meter(plain[0], " ".join(plain[1:])).display_name,
        }
        if verb in commands:
            return commands[verb](plain, options)
        return self._record(None if verb == "now" else moment(verb), plain, options)

    def _configure(self, plain: list[str], _: dict[str, str]) -> str:
        event_name, formula, *rest = plain
        given = dict(zip(rest[::2], rest[1::2], strict=True))
        self.metering.configure_meter(
            event_name,
            formula=formula,
            event_time_window=given.get("per"),
            customer_key="customer",
            value_key=event_name,
            dimension_keys=tuple(given["by"].split(",")) if "by" in given else (),
        )
        return "configured"

    def _change(self, plain: list[str], options: dict[str, str]) -> str:
        event_name, formula, *rest = plain
        given = dict(zip(rest[::2], rest[1::2], strict=True))
        if "at" in options:
            self.clock.now = moment(options["at"])
        rules = {
            "formula": formula,
            "event_time_window": given.get("per"),
            "customer_key": options.get("customer", "customer"),
            "value_key": options.get("value", event_name),
            "dimension_keys": given["by"].split(",") if "by" in given else (),
        }
        self.metering.change_rules(event_name, rules, reason=options.get("reason", "billed otherwise"))
        return "changed"

    def _record(self, at: datetime | None, plain: list[str], options: dict[str, str]) -> str:
        customer, event_name, value = plain
        if "recorded" in options:
            self.clock.now = moment(options["recorded"])
        elif at is not None:
            self.clock.now = max(self.clock.now, at)
        payload = {"customer": customer} | ({} if value == "-" else {event_name: value})
        payload |= {key: value for key, value in options.items() if key not in OPTIONS}
        receipt = self.metering.record(event_name, payload, identifier=options.get("id"), timestamp=at)
        self._meter_of.setdefault(cast(str, receipt.identifier), event_name)
        return receipt.outcome

    def _cancel(self, plain: list[str], options: dict[str, str]) -> str:
        (identifier,) = plain
        if "at" in options:
            self.clock.now = moment(options["at"])
        event_name = options.get("of") or self._meter_of.get(identifier, "unknown")
        self.metering.cancel(event_name, identifier, reason=options.get("reason"), by=options.get("by"))
        return "cancelled"

    def _close(self, plain: list[str], options: dict[str, str]) -> str:
        customer, event_name, start, end = plain
        if "at" in options:
            self.clock.now = moment(options["at"])
        closed = self.metering.close_period(event_name, customer, moment(start), moment(end))
        return f"closed {closed.quantity}"

    def _reopen(self, plain: list[str], options: dict[str, str]) -> str:
        customer, event_name, start, end = plain
        reason, by = options["reason"], options.get("by")
        self.metering.reopen_period(event_name, customer, moment(start), moment(end), reason=reason, by=by)
        return "reopened"

    # --- then -------------------------------------------------------------------------------------

    def then(
        self,
        *,
        total: str | None = None,
        sum: str | None = None,  # noqa: A002 - the field's name
        count: int | None = None,
        last: str | None = None,
        billable: str | None = None,
        between: str = YEAR,
        as_of: str | int | None = None,
        of: str | None = None,
    ) -> "Ledger":
        """Hold what is answered now: `total` is "customer meter value", `of` the same without the value.

        `*` stands for all customers. Each time, the explanation must be of the same total.
        """
        customer, event_name, *value = (total or of or "").split()
        start, end = (moment(word) for word in between.split())
        known = moment(as_of) if isinstance(as_of, str) else as_of
        who = None if customer == "*" else customer
        answer = self.metering.total(event_name, who, start, end, as_of=known)
        wanted = {"value": value[0] if value else None, "sum": sum, "count": count, "last": last, "billable": billable}
        expected = {field: str(given) for field, given in wanted.items() if given is not None}
        assert {field: _shown(answer, field) for field in expected} == expected
        explanation = self.metering.explain(event_name, who, start, end, as_of=known)
        assert explanation.total == answer
        assert sum_of_counted(explanation) == (answer.sum, answer.count)
        return self

    def answered(self, *answers: str) -> None:
        """Hold what the lines of `when` were answered."""
        assert self.answers == list(answers)

    def totals(self, event_name: str, between: str = YEAR) -> list[str]:
        """The totals of all customers, each as "customer value"."""
        start, end = (moment(word) for word in between.split())
        return [f"{one.customer} {one.value}" for one in self.metering.totals(event_name, start, end)]

    def summaries(self, asked: str, between: str) -> list[str]:
        """The summaries of "customer meter by window in timezone", each as "local start, local end: value"."""
        customer, event_name, _, window, _, timezone = asked.split()
        start, end = (moment(word) for word in between.split())
        answers = self.metering.summaries(
            event_name, None if customer == "*" else customer, start, end, window=window, timezone=timezone
        )
        edges = [(one.start.astimezone(ZoneInfo(timezone)), one.end.astimezone(ZoneInfo(timezone))) for one in answers]
        return [
            f"{start:%m-%d %H:%M%z} to {end:%m-%d %H:%M%z}: {one.value}"
            for (start, end), one in zip(edges, answers, strict=True)
        ]

    def closed(self, event_name: str, as_of: str | int | None = None) -> list[str]:
        """All closings of the meter, each as "customer day: quantity" or "… reopened"."""
        known = moment(as_of) if isinstance(as_of, str) else as_of
        return [
            f"{one.customer} {one.start:%d}: {one.quantity}" + ("" if one.is_standing else " reopened")
            for one in self.metering.closed_periods(event_name, reopened=True, as_of=known)
        ]

    def owed(self, event_name: str, as_of: str | int | None = None) -> list[str]:
        """The adjustments of the meter, each as "customer day: difference, event verdict change, …".

        What other rules in force would make of it comes last.
        """
        known = moment(as_of) if isinstance(as_of, str) else as_of
        return [
            f"{one.period.customer} {one.period.start:%d}: {one.difference:+}"
            + "".join(f", {event.identifier} {event.verdict} {event.change:+}" for event in one.events)
            + (f", by the rules in force {one.rules_difference:+}" if one.rules_difference else "")
            for one in self.metering.adjustments(event_name, as_of=known)
        ]

    def explained(self, asked: str, as_of: int | None = None) -> list[str]:
        """The events behind the total of "customer meter" of the year, each as "identifier verdict [by which]"."""
        customer, event_name = asked.split()
        start, end = (moment(word) for word in YEAR.split())
        explanation = self.metering.explain(event_name, customer, start, end, as_of=as_of)
        return [
            f"{one.identifier} {one.verdict}" + (f" by {one.overwritten_by}" if one.overwritten_by else "")
            for one in explanation.events
        ]


def sum_of_counted(explanation: Explanation) -> tuple[Fraction, int]:
    """What the events that counted add up to, and how many they are."""
    values = [one.value for one in explanation.events if one.verdict is Verdict.COUNTED]
    return sum((Fraction(value) for value in values if value is not None), Fraction()), len(values)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _shown(answer: Total, field: str) -> str:
    return str(getattr(answer, field))
