"""Counting: the rules of docs/how-usage-is-counted.md, written once more."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

from .signatures import Wrong
from .stored_events import AFTER_ALL_TIMES, BEFORE_ALL_TIMES, Ledger, microseconds

COUNTED = ("counted_from", "counted_until")
NOTHING = Fraction(0)
NO_CANCELLATION: Dict[str, Any] = {}
WINDOWS = {"hour": 3600 * 10**6, "day": 86400 * 10**6}


def number(text: Optional[str]) -> Optional[Decimal]:
    """Return the number that is written as plain decimal text; None for other text."""
    if text is None or not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
        return None
    value = Decimal(text)
    return value or abs(value)


def stated(text: Any) -> Fraction:
    """Return the number that a file states as plain decimal text. Raises Wrong."""
    value = number(text) if isinstance(text, str) else None
    if value is None:
        raise Wrong("%.60r is no number in plain decimal text" % (text,))
    return Fraction(value)


def matches(condition: Any, payload: Dict[str, str]) -> bool:
    """Return whether a payload matches a condition of a filter."""
    if "not" in condition:
        return not matches(condition["not"], payload)
    if "all" in condition:
        return all(matches(part, payload) for part in condition["all"])
    if "any" in condition:
        return any(matches(part, payload) for part in condition["any"])
    text = payload.get(condition["key"])
    if "exists" in condition:
        return (text is not None) == condition["exists"]
    if "equals" in condition or "one_of" in condition:
        return text in condition.get("one_of", (condition.get("equals"),))
    value = number(text)
    bounds = {word: Decimal(condition[word]) for word in condition if word != "key"}
    return value is not None and not (
        ("greater_than" in bounds and value <= bounds["greater_than"])
        or ("at_least" in bounds and value < bounds["at_least"])
        or ("less_than" in bounds and value >= bounds["less_than"])
        or ("at_most" in bounds and value > bounds["at_most"])
    )


class Row:
    """A meter event behind a total: its value, its verdict and its contribution."""

    __slots__ = (
        "at", "cancellation", "contribution", "customer", "dimensions", "identifier", "position", "revision", "state",
        "superseded_by", "unique", "value", "verdict",
    )  # fmt: skip

    def __init__(
        self, event: Tuple[int, int, str, Any], rules: Any, revision: int, changes: List[Tuple[int, str, Any]]
    ) -> None:
        self.at, self.position, self.identifier, self.state = event
        payload = self.state["payload"]
        keys = rules["dimension_keys"] + rules.get("optional_dimension_keys", [])
        self.customer, self.revision = payload.get(rules["customer_key"]), revision
        self.dimensions = [(key, payload.get(key)) for key in keys]
        is_filtered = "filter" in rules and not matches(rules["filter"], payload)
        text = None if is_filtered else payload.get(rules["value_key"])
        self.unique = text if rules["formula"] == "unique_count" else None
        self.value = None if self.unique is not None else number(text)
        is_cancelled = bool(changes) and changes[-1][1] == "EventCancelled"
        self.cancellation = changes[-1][2] if is_cancelled else NO_CANCELLATION
        self.verdict = "cancelled" if is_cancelled else "filtered" if is_filtered else "counted"
        self.superseded_by = ""
        self.contribution = NOTHING

    @property
    def text(self) -> str:
        """The value in the digest and in the explanation."""
        if self.unique is not None:
            return json.dumps(self.unique, ensure_ascii=False)
        return "" if self.value is None else format(self.value, "f")


def rows_behind(ledger: Ledger, customer: str, total: Any) -> Tuple[List[Row], Any, int]:
    """Return the rows behind a total, in order of (time, position), and the rules of its quantity with their revision.

    The range of a current total is that of the windows that start in it; a closing has stored its range.
    """
    meter, position, is_current = total["meter"], total["position"], total["kind"] == "current"
    parts = ledger.rules_over_time(meter, position, AFTER_ALL_TIMES if is_current else total["revision"])
    bounds = ("start", "end") if is_current else COUNTED
    start, end = (microseconds(total[bound]) for bound in bounds)
    if not is_current and [rules for at, _, rules in parts if at < end][-1] != total["rules"]:
        parts = [(BEFORE_ALL_TIMES, total["revision"], total["rules"])]
    rows: List[Row] = []
    (_, last_revision, last_rules), source = parts[-1], ledger.meters[meter][0][1].get("source") or meter
    ends = [part[0] for part in parts[1:]] + [AFTER_ALL_TIMES]
    counted: List[int] = []
    for (part_start, revision, rules), part_end in zip(parts, ends):
        first, last = max(start, part_start), min(end, part_end)
        length = WINDOWS.get(rules["event_time_window"])
        if first < last and is_current and length is not None:
            first, last = first + -first % length, last + -last % length
        if first < last:
            last_revision, last_rules = revision, rules
            counted += first, last
            rows += _rows_under(ledger, source, customer, position, (first, last), rules, revision)
    if is_current and counted and [microseconds(total[bound]) for bound in COUNTED] != [counted[0], counted[-1]]:
        raise Wrong("totals.json: the total of %s counts another range" % meter)
    return rows, last_rules, last_revision


def _rows_under(
    ledger: Ledger, source: str, customer: str, position: int, bounds: Tuple[int, int], rules: Any, revision: int
) -> List[Row]:
    """Return the rows in a range under one revision of the rules. The windows that it cuts are read as a whole."""
    length = WINDOWS.get(rules["event_time_window"])
    margin = 0 if length is None else length
    rows: List[Tuple[Any, Row]] = []
    newest: Dict[Any, Row] = {}
    for event in ledger.usage.get(source, ()):
        if event[1] > position or not bounds[0] - margin <= event[0] < bounds[1] + margin:
            continue
        changes = [change for change in ledger.changes.get(event[1], ()) if change[0] <= position]
        row = Row(event, rules, revision, changes)
        if row.customer != customer:
            continue
        key = event[1] if length is None else (tuple(row.dimensions), event[0] // length)
        if row.verdict == "counted" and (key not in newest or newest[key].position < row.position):
            newest[key] = row
        rows.append((key, row))
    for key, row in rows:
        if row.verdict == "counted" and newest[key] is not row:
            row.verdict, row.superseded_by = "superseded", newest[key].identifier
    return [row for _, row in rows if bounds[0] <= row.at < bounds[1]]


def to_finite(value: Fraction) -> Fraction:
    """Return an exact number; one without a finite decimal form is rounded half to even at 15 digits."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return value if rest == 1 else Fraction(round(value * 10**15), 10**15)


def shares_of(formula: str, counted: List[Row]) -> Callable[[Row], Fraction]:
    """Return a function that returns the share of each counted row; it is called once for each, in order."""
    numbers = [Fraction(row.value) for row in counted if row.value is not None]
    extreme = max(numbers) if formula == "max" and numbers else min(numbers) if formula == "min" and numbers else None
    seen: Set[Optional[str]] = set()

    def share(row: Row) -> Fraction:
        value = Fraction(row.value or 0)
        if formula in ("max", "min", "unique_count"):
            mark = row.unique if formula == "unique_count" else None
            if mark in seen or (formula != "unique_count" and value != extreme):
                return Fraction(0)
            seen.add(mark)
            return Fraction(1) if formula == "unique_count" else value
        if formula == "last" and row is not counted[-1]:
            return Fraction(0)
        return {"count": Fraction(1), "avg": value / len(counted)}.get(formula, value)

    return share


def set_contributions(rows: List[Row], rules: Any) -> Fraction:
    """Set the contribution of each row, and return the quantity, which is their sum."""
    counted = [row for row in rows if row.verdict == "counted"]
    share, multiplier = shares_of(rules["formula"], counted), Fraction(rules.get("multiplier", 1))
    exact = quantity = Fraction(0)
    for row in counted:
        exact += share(row) * multiplier
        row.contribution = to_finite(exact) - quantity
        quantity += row.contribution
    return quantity


def billable_of(quantity: Fraction, rules: Any) -> Fraction:
    """Return the billed quantity: at least 0, and rounded by the rules."""
    positive, rounding = max(quantity, Fraction(0)), rules.get("rounding")
    if rounding is None:
        return positive
    step = Fraction(rounding["step"])
    steps, rest = divmod(positive, step)
    is_up = rounding["mode"] == "up" and rest > 0
    return (steps + (is_up or (rounding["mode"] == "half_up" and 2 * rest >= step))) * step
