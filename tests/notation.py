"""The notation of the scenarios: one line for each command, and the expected results.

A line is one of

    meter   seats  last per hour  by region,plan   `tests/rules_notation.py` lists the words of rules
    meter   out  sum from requests  value=tokens   a derived meter; customer=account and value=tokens name keys
    10:05   acme seats 10  id=a  region=eu         a meter event, recorded when it occurred, or now if that is past
    10:05   acme seats 10  recorded=10:50          a meter event, recorded at another time
    now     acme seats 10  id=a                    a meter event without a timestamp
    cancel  b  at=10:45  of=seats  reason=error    cancel b, now or at a time; by default under the event's meter
    revoke  b  at=10:50  of=seats  reason=mistake  revoke the cancellation of b
    close   acme seats 10 11  at=11T02:00          close 10 November, now or at a time; `by region` adds groups
    close   acme seats 10 11  rules=current        close 10 November, which was reopened, under the current rules
    reopen  acme seats 10 11  reason=error  by=ops reopen the closed period; withdraw=yes withdraws its settlements
    settle  acme seats 10 11  document=CN-1  by=fi settle the adjustment, now or as of a position: position=7
    deactivate seats        reactivate seats       rename seats Chairs
    change  seats  sum per day by region           change the rules; customer=account and value=size name keys
    change  seats  count  from=11                  change the rules for usage from a time on

Lines are in order of arrival, and the clock never goes back. A time is `10:05` on 10 November 2026, `11T10:05` on
another day of that November, `11` at midnight of that day, or `2026-03-29T01:30`; all in UTC. `-` omits the value.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from typing import cast
from zoneinfo import ZoneInfo

from tallybook.application import Explanation, Metering, TallybookError, Total, Verdict

from .rules_notation import dimensions_text, parse_query, parse_rules, split_arguments

NOVEMBER = "2026-11-"
DAY = "2026-11-10T"
YEAR = "2026-01-01T00:00 2027-01-01T00:00"
OPTIONS = {"id", "recorded", "at", "of", "reason", "by"}
ROLL_FORWARD = ("late", "cancelled", "superseded", "restored", "recalculated", "settled", "open", "by_rules")


def moment(text: str) -> datetime:
    """Return the time that `text` represents."""
    in_full = text if text[4:5] == "-" else (DAY if ":" in text and "T" not in text else NOVEMBER) + text
    return datetime.fromisoformat(in_full).replace(tzinfo=UTC)


class Clock:
    """A clock that returns the time it is set to."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class Ledger:
    """A ledger that is driven and queried in the notation."""

    def __init__(self, metering: Metering, clock: Clock) -> None:
        self.metering = metering
        self.clock = clock
        self.outcomes: list[str] = []
        self._meter_of: dict[str, str] = {}

    # --- given, when ------------------------------------------------------------------------------

    def given(self, lines: str) -> "Ledger":
        """Run the lines; none may raise an error."""
        for line in _lines(lines):
            self._run(line)
        return self

    def when(self, lines: str) -> "Ledger":
        """Run the lines, and collect the outcome or the error code of each."""
        self.outcomes = [self._outcome(line) for line in _lines(lines)]
        return self

    def position(self) -> int:
        """Return the position of the newest event."""
        return self.metering.catch_up()

    def _outcome(self, line: str) -> str:
        try:
            return self._run(line)
        except TallybookError as error:
            return error.code

    def _run(self, line: str) -> str:
        verb, *arguments = line.split()
        plain, options = split_arguments(arguments)
        commands: dict[str, Callable[[list[str], dict[str, str]], str]] = {
            "meter": self._configure,
            "cancel": self._cancel,
            "revoke": self._revoke,
            "close": self._close,
            "reopen": self._reopen,
            "settle": self._settle,
            "change": self._change_rules,
            "deactivate": lambda plain, _: self.metering.meters.deactivate(plain[0]).status,
            "reactivate": lambda plain, _: self.metering.meters.reactivate(plain[0]).status,
            "rename": lambda plain, _: self.metering.meters.rename(plain[0], " ".join(plain[1:])).display_name,
        }
        if verb in commands:
            return commands[verb](plain, options)
        return self._record(None if verb == "now" else moment(verb), plain, options)

    def _configure(self, plain: list[str], options: dict[str, str]) -> str:
        event_name, *words = plain
        source = words.pop(words.index("from") + 1) if "from" in words else None
        rules = parse_rules(event_name, [word for word in words if word != "from"]) | _keys(options)
        self.metering.meters.configure(event_name, source=source, **rules)  # type: ignore[arg-type]
        return "configured"

    def _change_rules(self, plain: list[str], options: dict[str, str]) -> str:
        event_name, *words = plain
        if "at" in options:
            self.clock.now = moment(options["at"])
        rules = parse_rules(event_name, words) | _keys(options)
        effective_from = moment(options["from"]) if "from" in options else None
        self.metering.rules.change(
            event_name, rules, reason=options.get("reason", "billed otherwise"), effective_from=effective_from
        )
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

    def _revoke(self, plain: list[str], options: dict[str, str]) -> str:
        (identifier,) = plain
        if "at" in options:
            self.clock.now = moment(options["at"])
        event_name = options.get("of") or self._meter_of.get(identifier, "unknown")
        reason = options.get("reason", "mistake")
        self.metering.revoke_cancel(event_name, identifier, reason=reason, by=options.get("by"))
        return "revoked"

    def _close(self, plain: list[str], options: dict[str, str]) -> str:
        customer, event_name, start, end, *by = plain
        if "at" in options:
            self.clock.now = moment(options["at"])
        group_by = by[1].split(",") if by else ()
        closed = self.metering.periods.close(
            event_name, customer, moment(start), moment(end), group_by=group_by, allow_empty=True,
            rules=options.get("rules", "previous"),  # type: ignore[arg-type]
        )  # fmt: skip
        return f"closed {closed.quantity}"

    def _reopen(self, plain: list[str], options: dict[str, str]) -> str:
        customer, event_name, start, end = plain
        self.metering.periods.reopen(
            event_name, customer, moment(start), moment(end), reason=options["reason"], by=options.get("by"),
            withdraw_settlements="withdraw" in options,
        )  # fmt: skip
        return "reopened"

    def _settle(self, plain: list[str], options: dict[str, str]) -> str:
        customer, event_name, start, end = plain
        if "at" in options:
            self.clock.now = moment(options["at"])
        position = int(options["position"]) if "position" in options else None
        closed = self.metering.periods.settle(
            event_name, customer, moment(start), moment(end), document=options["document"], as_of=position,
            by=options.get("by"),
        )  # fmt: skip
        return f"settled {closed.settlements[-1].difference:+}"

    # --- then -------------------------------------------------------------------------------------

    def then(
        self,
        *,
        total: str | None = None,
        sum: str | None = None,  # noqa: A002 - the field's name
        count: int | None = None,
        last: str | None = None,
        min: str | None = None,  # noqa: A002 - the field's name
        max: str | None = None,  # noqa: A002 - the field's name
        billable: str | None = None,
        between: str = YEAR,
        as_of: str | int | None = None,
        of: str | None = None,
    ) -> "Ledger":
        """Check the total: `total` is "customer meter value", `of` is "customer meter".

        `*` selects all customers. The explanation must have the same total.
        """
        customer, event_name, *value = (total or of or "").split()
        start, end = (moment(time_text) for time_text in between.split())
        as_of_value = moment(as_of) if isinstance(as_of, str) else as_of
        selected_customer = None if customer == "*" else customer
        actual_total = self.metering.total(event_name, selected_customer, start, end, as_of=as_of_value)
        fields = {
            "value": value[0] if value else None, "sum": sum, "count": count, "last": last, "min": min, "max": max,
            "billable": billable,
        }  # fmt: skip
        expected = {field: str(field_value) for field, field_value in fields.items() if field_value is not None}
        assert {field: _format_field(actual_total, field) for field in expected} == expected
        explanation = self.metering.explain(event_name, selected_customer, start, end, as_of=as_of_value)
        assert explanation.total == actual_total
        assert total_of_counted(explanation) == (actual_total.sum, actual_total.count)
        assert total_of_contributions(explanation) == actual_total.value
        return self

    def outcomes_are(self, *expected: str) -> None:
        """Check the outcomes of the lines of `when`."""
        assert self.outcomes == list(expected)

    def totals(self, event_name: str, between: str = YEAR) -> list[str]:
        """Return the totals of all customers, each as "customer value"."""
        start, end = (moment(time_text) for time_text in between.split())
        return [f"{total.customer} {total.value}" for total in self.metering.totals(event_name, start, end)]

    def groups(self, query: str, between: str = YEAR, as_of: str | int | None = None) -> list[str]:
        """Return the groups of "customer meter by region,plan where plan=free", each as "eu,free value".

        The explanation must have the same groups.
        """
        event_name, customer, group_by, where = parse_query(query)
        start, end = (moment(time_text) for time_text in between.split())
        as_of_value = moment(as_of) if isinstance(as_of, str) else as_of
        total = self.metering.total(event_name, customer, start, end, as_of=as_of_value, where=where, group_by=group_by)
        explanation = self.metering.explain(
            event_name, customer, start, end, as_of=as_of_value, where=where, group_by=group_by
        )
        assert explanation.total == total
        return [f"{dimensions_text(group.dimensions)} {group.value}" for group in total.groups]

    def summaries(self, query: str, between: str) -> list[str]:
        """Return the summaries of "customer meter by window in timezone", each as "local start to local end: value"."""
        customer, event_name, _, window, _, timezone = query.split()
        start, end = (moment(time_text) for time_text in between.split())
        summaries = self.metering.summaries(
            event_name, None if customer == "*" else customer, start, end, window=window, timezone=timezone
        )
        edges = [
            (summary.start.astimezone(ZoneInfo(timezone)), summary.end.astimezone(ZoneInfo(timezone)))
            for summary in summaries
        ]
        return [
            f"{start:%m-%d %H:%M%z} to {end:%m-%d %H:%M%z}: {summary.value}"
            for (start, end), summary in zip(edges, summaries, strict=True)
        ]

    def closed_periods(self, event_name: str, as_of: str | int | None = None) -> list[str]:
        """Return all closings of the meter, each as "customer day: quantity, eu quantity, …" or "… reopened"."""
        as_of_value = moment(as_of) if isinstance(as_of, str) else as_of
        return [
            f"{period.customer} {period.start:%d}: {period.quantity}"
            + "".join(f", {dimensions_text(group.dimensions)} {group.quantity}" for group in period.groups)
            + ("" if period.is_closed else " reopened")
            for period in self.metering.periods.list(event_name, reopened=True, as_of=as_of_value)
        ]

    def adjustments(self, event_name: str, as_of: str | int | None = None, by: str | None = None) -> list[str]:
        """Return the adjustments of the meter, each as "customer day: difference, event verdict change, …".

        The rules difference, if any, comes next, and the differences of the groups by `by` come last.
        """
        group_by = () if by is None else by.split(",")
        as_of_value = moment(as_of) if isinstance(as_of, str) else as_of
        return [
            f"{adjustment.period.customer} {adjustment.period.start:%d}: {adjustment.difference:+}"
            + "".join(f", {event.identifier} {event.verdict} {event.change:+}" for event in adjustment.events)
            + (f", by the rules in force {adjustment.rules_difference:+}" if adjustment.rules_difference else "")
            + "".join(f", {dimensions_text(group.dimensions)} {group.difference:+}" for group in adjustment.groups)
            for adjustment in self.metering.periods.adjustments(event_name, as_of=as_of_value, group_by=group_by)
        ]

    def roll_forwards(self, event_name: str) -> list[str]:
        """Return how each changed period became what it is, each as "customer day: frozen, late +2, …, now 7"."""
        adjustments = self.metering.periods.adjustments(event_name, settled=True)
        lines: list[str] = []
        for period, roll in ((adjustment.period, adjustment.roll_forward) for adjustment in adjustments):
            parts = {name: getattr(roll, name) for name in ROLL_FORWARD}
            changes = sum(parts[name] for name in ROLL_FORWARD[:5])
            assert roll.frozen + changes == roll.now == roll.frozen + roll.settled + roll.open
            shown = ", ".join(f"{name} {value:+}" for name, value in parts.items() if value)
            lines.append(f"{period.customer} {period.start:%d}: {roll.frozen}, {shown}, now {roll.now}")
        return lines

    def invoice_lines(self, start: str, end: str, as_of: int | None = None, settle: str | None = None) -> list[str]:
        """Return the invoice lines, each as "customer meter day [dimensions]: quantity", adjustments signed."""
        lines = self.metering.periods.invoice_lines(moment(start), moment(end), as_of=as_of, settle=settle)
        return [
            f"{line.customer} {line.event_name} {line.start:%d}"
            + ("" if line.dimensions is None else f" {dimensions_text(line.dimensions)}")
            + (f": {line.quantity}" if line.kind == "usage" else f": {line.quantity:+}")
            + ("" if line.previously_billed is None else f", billed {line.previously_billed}")
            for line in lines.lines
        ]

    def gaps(self, event_name: str, as_of: int | None = None) -> list[str]:
        """Return the gaps between closed periods, each as "customer day to day: quantity, count"."""
        return [
            f"{gap.customer} {gap.start:%d} to {gap.end:%d}: {gap.value}, {gap.count}"
            for gap in self.metering.periods.gaps(event_name, as_of=as_of)
        ]

    def explanation(self, query: str, as_of: int | None = None) -> list[str]:
        """Return the explained events of "customer meter" in the year, each as "identifier verdict [by identifier]"."""
        customer, event_name = query.split()
        start, end = (moment(time_text) for time_text in YEAR.split())
        explanation = self.metering.explain(event_name, customer, start, end, as_of=as_of)
        return [
            f"{event.identifier} {event.verdict}" + (f" by {event.superseded_by}" if event.superseded_by else "")
            for event in explanation.events
        ]

    def contributions(self, query: str, between: str = YEAR) -> list[str]:
        """Return what each event contributes to the total of "customer meter", each as "identifier contribution"."""
        customer, event_name = query.split()
        start, end = (moment(time_text) for time_text in between.split())
        explanation = self.metering.explain(event_name, None if customer == "*" else customer, start, end)
        return [f"{event.identifier} {event.contribution}" for event in explanation.events]


def total_of_counted(explanation: Explanation) -> tuple[Fraction, int]:
    """Return the sum and the number of the counted events."""
    values = [event.value for event in explanation.events if event.verdict is Verdict.COUNTED]
    return sum((Fraction(value) for value in values if value is not None), Fraction()), len(values)


def total_of_contributions(explanation: Explanation) -> Fraction:
    """Return the sum of the contributions of all events."""
    return sum((Fraction(event.contribution) for event in explanation.events), Fraction())


def _keys(options: dict[str, str]) -> dict[str, str]:
    return {f"{key}_key": options[key] for key in ("customer", "value") if key in options}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _format_field(total: Total, field: str) -> str:
    return str(getattr(total, field))
