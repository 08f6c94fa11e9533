"""Operations on generations and rules: build, compare, promote, drop."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tallybook.application import GenerationView, Metering

from .model import LedgerModel, Quantity
from .outcomes import OperationResult
from .rules import Rules

Changes = Mapping[str, Any]


def change_rules(rules: Rules, changes: Changes) -> Rules:
    """Return the rules with some fields changed."""
    return replace(rules, **changes)


@dataclass(frozen=True)
class ChangeRules:
    """Changes the rules of a meter; if `is_dry_run`, builds a candidate instead."""

    event_name: str
    changes: Changes
    is_dry_run: bool = False

    def __str__(self) -> str:
        return f"{'candidate' if self.is_dry_run else 'change rules'} {self.event_name!r:.20} {dict(self.changes)}"

    def run(self, metering: Metering) -> object:
        """Change the rules or build the candidate."""
        if self.is_dry_run:
            return metering.generations.build_candidate(self.event_name, self.changes)
        return metering.rules.change(self.event_name, self.changes, reason="a test")

    def check(self, result: OperationResult) -> None:
        """Check that rules which can't read every recorded event are rejected and that nothing changes."""
        allowed = {self._expected_outcome(result.model, head) for head in result.heads}
        if result.written_rows:
            result.expect("changed" in allowed and not self.is_dry_run, "rules were changed", allowed=allowed)
            check_changed_rules(result, {self.event_name})
        if result.was_interrupted or result.was_locked_out:
            return
        if result.error is not None:
            moved = set[str]() if result.ran_alone else {"rules_conflict", "generation_not_found"}
            result.expect_error((allowed - {"changed"}) | moved)
            return
        result.expect("changed" in allowed, "changed, but must be rejected", allowed=allowed)
        if result.ran_alone and not self.is_dry_run:
            result.expect(result.written_rows, "rules were changed, but no row was written")

    def _expected_outcome(self, model: LedgerModel, head: int) -> str:
        meter = model.meters(head).get(self.event_name)
        if meter is None:
            return "no_meter"
        new_rules = change_rules(meter.rules, self.changes)
        if new_rules == meter.rules:
            return "parameter_invalid"
        return "incompatible_rules" if model.incompatible_positions(self.event_name, new_rules, head) else "changed"


def check_changed_rules(result: OperationResult, meters: set[str]) -> None:
    """Check that the rules of all of these meters, or of none, changed, and that they read every recorded event."""
    names = {row.fields["event_name"] for row in result.written_rows if row.topic == "RulesChanged"}
    result.expect(
        len(names) == len(result.written_rows) and names <= meters,
        "unexpected rows were written",
        written=result.written_rows,
    )
    for row in result.written_rows:
        before = result.model.meters(row.position - 1)[row.fields["event_name"]]
        result.expect(row.fields["revision"] == before.revision + 1, "a revision was skipped", row=row)
        unreadable = result.model.incompatible_positions(
            row.fields["event_name"], Rules.from_fields(row.fields["rules"]), row.position
        )
        result.expect(not unreadable, "the new rules can't read these positions", positions=unreadable, row=row)


@dataclass(frozen=True)
class Rebuild:
    """Builds a generation next to the live one."""

    rules: Mapping[str, Changes]

    def __str__(self) -> str:
        return f"rebuild {dict(self.rules)}"

    def run(self, metering: Metering) -> GenerationView:
        """Build the generation."""
        return metering.generations.rebuild(rules={name: dict(changes) for name, changes in self.rules.items()})

    def check(self, result: OperationResult) -> None:
        """Check that it is complete, or rejected if its rules can't read every recorded event."""
        result.expect(not result.written_rows, "rebuilding changes nothing", written=result.written_rows)
        if result.was_interrupted or result.was_locked_out:
            return
        allowed = {self._expected_outcome(result.model, head) for head in result.heads}
        if result.error is not None:
            result.expect_error(allowed - {"built"})
            return
        result.expect("built" in allowed, "built, but must be rejected", allowed=allowed)
        result.expect(
            result.value.position >= min(result.heads), "the generation is incomplete", generation=result.value
        )

    def _expected_outcome(self, model: LedgerModel, head: int) -> str:
        meters = model.meters(head)
        if not self.rules.keys() <= meters.keys():
            return "no_meter"
        new_rules = {name: change_rules(meters[name].rules, changes) for name, changes in self.rules.items()}
        is_unreadable = any(model.incompatible_positions(name, rules, head) for name, rules in new_rules.items())
        return "incompatible_rules" if is_unreadable else "built"


@dataclass(frozen=True)
class GenerationSnapshot:
    """A generation as read before an operation on it; the state is None if the generation does not exist."""

    number: int
    state: str | None
    rules: Mapping[str, Rules]

    @classmethod
    def from_view(cls, view: GenerationView) -> "GenerationSnapshot":
        """Return the snapshot of a generation."""
        rules = {name: Rules.from_view(meter_rules) for name, meter_rules in view.rules.items()}
        return cls(view.number, str(view.state), rules)

    def is_incompatible(self, model: LedgerModel) -> bool:
        """Return whether its rules fail to read a recorded event."""
        return any(model.incompatible_positions(name, rules, model.head) for name, rules in self.rules.items())


@dataclass(frozen=True)
class Promote:
    """Makes a generation live."""

    snapshot: GenerationSnapshot
    reason: str | None

    def __str__(self) -> str:
        reason = "with a reason" if self.reason else "without a reason"
        return f"promote {self.snapshot.number} ({self.snapshot.state}) {reason}"

    def run(self, metering: Metering) -> GenerationView:
        """Promote the generation."""
        return metering.generations.promote(self.snapshot.number, reason=self.reason)

    def check(self, result: OperationResult) -> None:
        """Check that it is live and that all of its rules are in force, or that nothing changed."""
        ran_alone, rules = result.ran_alone, self.snapshot.rules
        check_changed_rules(result, set(rules) if ran_alone else set(result.model.meters(result.model.head)))
        result.expect(
            not result.written_rows or len(result.written_rows) == len(rules) or not ran_alone,
            "only some of the rules were changed",
            rules=rules,
        )
        if result.was_interrupted or result.was_locked_out:
            return
        allowed = self._expected_outcomes(result.model)
        if result.error is not None:
            others = set[str]() if ran_alone else {"generation_not_found", "incompatible_rules", "parameter_invalid"}
            result.expect(
                result.code in allowed | others, "rejected with an unexpected code", code=result.code, allowed=allowed
            )
            return
        result.expect("promoted" in allowed or not ran_alone, "promoted, but must be rejected", allowed=allowed)
        result.expect(result.value.state == "live" or not ran_alone, "promoted, but not live", generation=result.value)
        if ran_alone and self.snapshot.state != "live":
            meters = result.model.meters(result.model.head)
            is_equal = all(meters[name].rules == meter_rules for name, meter_rules in rules.items())
            result.expect(is_equal, "promoted, but its rules are not in force", rules=rules)

    def _expected_outcomes(self, model: LedgerModel) -> set[str]:
        match self.snapshot.state:
            case None:
                return {"generation_not_found"}
            case "building":
                return {"generation_in_use"}
            case "live":
                return {"promoted"}
            case _ if self.snapshot.rules and self.reason is None:
                return {"parameter_invalid"}
            case _ if not self.snapshot.rules:
                return {"promoted"}
            case _:
                moved = {"rules_conflict"} if any(model.rows_of("RulesChanged", until=model.head)) else set[str]()
                return moved | {"incompatible_rules" if self.snapshot.is_incompatible(model) else "promoted"}


@dataclass(frozen=True)
class Drop:
    """Drops a generation."""

    snapshot: GenerationSnapshot

    def __str__(self) -> str:
        return f"drop {self.snapshot.number} ({self.snapshot.state})"

    def run(self, metering: Metering) -> None:
        """Drop the generation."""
        metering.generations.drop(self.snapshot.number)

    def check(self, result: OperationResult) -> None:
        """Check that a live generation can't be dropped."""
        result.expect(not result.written_rows, "a drop must not write rows", written=result.written_rows)
        if result.was_interrupted or result.was_locked_out:
            return
        expected_error = {None: "generation_not_found", "live": "generation_in_use"}.get(self.snapshot.state)
        if result.ran_alone:
            result.expect(
                result.code == expected_error,
                "unexpected result of a drop",
                code=result.code,
                expected=expected_error,
            )


@dataclass(frozen=True)
class Diff:
    """Compares a generation with the live one."""

    snapshot: GenerationSnapshot

    def __str__(self) -> str:
        return f"diff {self.snapshot.number} ({self.snapshot.state})"

    def run(self, metering: Metering) -> Any:
        """Compare the generations by month."""
        return metering.generations.diff(self.snapshot.number)

    def check(self, result: OperationResult) -> None:
        """Check the list of differing totals, each with its value before and after."""
        result.expect(not result.written_rows, "a comparison must not write rows", written=result.written_rows)
        if result.was_interrupted or result.was_locked_out:
            return
        expected_error = {None: "generation_not_found", "building": "generation_in_use"}.get(self.snapshot.state)
        if result.error is not None or expected_error is not None:
            is_incompatible = self.snapshot.is_incompatible(result.model) and result.code == "incompatible_rules"
            is_equal = result.code == expected_error or is_incompatible or not result.ran_alone
            result.expect(is_equal, "rejected with an unexpected code", code=result.code)
        elif result.ran_alone:
            actual = {
                (difference.event_name, difference.customer, difference.start): (difference.before, difference.after)
                for difference in result.value.differences
            }
            expected = self._expected(result.model)
            result.expect(actual == expected, "unexpected differences", actual=actual, expected=expected)

    def _expected(self, model: LedgerModel) -> dict[tuple[str, str, datetime], tuple[Quantity, Quantity]]:
        totals: dict[tuple[str, str, datetime], tuple[Quantity, Quantity]] = {}
        for name, rules in self.snapshot.rules.items():
            totals_by_rules = model.totals_by_month(name, model.head), model.totals_by_month(name, model.head, rules)
            for key in totals_by_rules[0].keys() | totals_by_rules[1].keys():
                before, after = (month_totals.get(key, Quantity(0)) for month_totals in totals_by_rules)
                if before != after:
                    totals[name, *key] = before, after
        return totals
