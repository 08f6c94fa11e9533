"""Operations on generations and rules: built, compared, promoted, dropped."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tallybook.application import GenerationView, Metering

from .model import LedgerModel, Quantity, Rules
from .outcomes import OperationResult

Changes = Mapping[str, Any]


def change_rules(rules: Rules, changes: Changes) -> Rules:
    """Rules, some of their fields changed."""
    return replace(rules, **changes)


@dataclass(frozen=True)
class ChangeRules:
    """A meter is counted by other rules from now on; or, where `is_dry_run`, a candidate is built."""

    event_name: str
    changes: Changes
    is_dry_run: bool = False

    def __str__(self) -> str:
        return f"{'candidate' if self.is_dry_run else 'change rules'} {self.event_name!r:.20} {dict(self.changes)}"

    def run(self, metering: Metering) -> object:
        """Ask for it."""
        if self.is_dry_run:
            return metering.generations.build_candidate(self.event_name, self.changes)
        return metering.rules.change(self.event_name, self.changes, reason="a test")

    def check(self, result: OperationResult) -> None:
        """Rules that can't read everything recorded are refused, and nothing is changed."""
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
        result.expect("changed" in allowed, "done, but can't be", allowed=allowed)
        if result.ran_alone and not self.is_dry_run:
            result.expect(result.written_rows, "rules were changed, but nothing was written")

    def _expected_outcome(self, model: LedgerModel, head: int) -> str:
        meter = model.meters(head).get(self.event_name)
        if meter is None:
            return "no_meter"
        new_rules = change_rules(meter.rules, self.changes)
        if new_rules == meter.rules:
            return "parameter_invalid"
        return "incompatible_rules" if model.incompatible_positions(self.event_name, new_rules, head) else "changed"


def check_changed_rules(result: OperationResult, meters: set[str]) -> None:
    """Rules of these meters may have been changed, of all or of none, to what can read everything recorded."""
    names = {row.fields["event_name"] for row in result.written_rows if row.topic == "RulesChanged"}
    result.expect(
        len(names) == len(result.written_rows) and names <= meters, "other rows were written", wrote=result.written_rows
    )
    for row in result.written_rows:
        before = result.model.meters(row.position - 1)[row.fields["event_name"]]
        result.expect(row.fields["revision"] == before.revision + 1, "a revision was passed over", row=row)
        unreadable = result.model.incompatible_positions(
            row.fields["event_name"], Rules.from_fields(row.fields["rules"]), row.position
        )
        result.expect(not unreadable, "the rules in force can't read these positions", positions=unreadable, row=row)


@dataclass(frozen=True)
class Rebuild:
    """A generation is built beside the live one."""

    rules: Mapping[str, Changes]

    def __str__(self) -> str:
        return f"rebuild {dict(self.rules)}"

    def run(self, metering: Metering) -> GenerationView:
        """Build it."""
        return metering.generations.rebuild(rules={name: dict(changes) for name, changes in self.rules.items()})

    def check(self, result: OperationResult) -> None:
        """It is ready at the end, or refused for rules that can't read what is recorded."""
        result.expect(not result.written_rows, "rebuilding changes nothing", wrote=result.written_rows)
        if result.was_interrupted or result.was_locked_out:
            return
        allowed = {self._expected_outcome(result.model, head) for head in result.heads}
        if result.error is not None:
            result.expect_error(allowed - {"built"})
            return
        result.expect("built" in allowed, "built, but can't be", allowed=allowed)
        result.expect(result.value.position >= min(result.heads), "built in part", generation=result.value)

    def _expected_outcome(self, model: LedgerModel, head: int) -> str:
        meters = model.meters(head)
        if not self.rules.keys() <= meters.keys():
            return "no_meter"
        new_rules = {name: change_rules(meters[name].rules, changes) for name, changes in self.rules.items()}
        is_unreadable = any(model.incompatible_positions(name, rules, head) for name, rules in new_rules.items())
        return "incompatible_rules" if is_unreadable else "built"


@dataclass(frozen=True)
class GenerationSnapshot:
    """A generation as it was seen before an operation on it; None where there is none."""

    number: int
    state: str | None
    rules: Mapping[str, Rules]

    @classmethod
    def from_view(cls, view: GenerationView) -> "GenerationSnapshot":
        """What is seen of a generation."""
        rules = {
            name: Rules(
                meter_rules.formula,
                meter_rules.event_time_window,
                meter_rules.customer_key,
                meter_rules.value_key,
                meter_rules.dimension_keys,
            )
            for name, meter_rules in view.rules.items()
        }
        return cls(view.number, str(view.state), rules)

    def is_incompatible(self, model: LedgerModel) -> bool:
        """Whether its rules can't read something that is recorded."""
        return any(model.incompatible_positions(name, rules, model.head) for name, rules in self.rules.items())


@dataclass(frozen=True)
class Promote:
    """A generation is to answer."""

    snapshot: GenerationSnapshot
    reason: str | None

    def __str__(self) -> str:
        reason = "with a reason" if self.reason else "without a reason"
        return f"promote {self.snapshot.number} ({self.snapshot.state}) {reason}"

    def run(self, metering: Metering) -> GenerationView:
        """Promote it."""
        return metering.generations.promote(self.snapshot.number, reason=self.reason)

    def check(self, result: OperationResult) -> None:
        """It answers, under its own rules, which are put in force together; or nothing has changed."""
        is_alone, rules = result.ran_alone, self.snapshot.rules
        check_changed_rules(result, set(rules) if is_alone else set(result.model.meters(result.model.head)))
        result.expect(
            not result.written_rows or len(result.written_rows) == len(rules) or not is_alone,
            "changed in part",
            rules=rules,
        )
        if result.was_interrupted or result.was_locked_out:
            return
        allowed = self._expected_outcomes(result.model)
        if result.error is not None:
            others = set[str]() if is_alone else {"generation_not_found", "incompatible_rules", "parameter_invalid"}
            result.expect(result.code in allowed | others, "refused otherwise", code=result.code, allowed=allowed)
            return
        result.expect("promoted" in allowed or not is_alone, "promoted, but can't be", allowed=allowed)
        result.expect(
            result.value.state == "live" or not is_alone, "promoted, and doesn't answer", generation=result.value
        )
        if is_alone and self.snapshot.state != "live":
            meters = result.model.meters(result.model.head)
            is_so = all(meters[name].rules == rules for name, rules in rules.items())
            result.expect(is_so, "promoted, and its rules are not in force", rules=rules)

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
    """A generation is done away with."""

    snapshot: GenerationSnapshot

    def __str__(self) -> str:
        return f"drop {self.snapshot.number} ({self.snapshot.state})"

    def run(self, metering: Metering) -> None:
        """Drop it."""
        metering.generations.drop(self.snapshot.number)

    def check(self, result: OperationResult) -> None:
        """The live one can't be dropped."""
        result.expect(not result.written_rows, "dropping changes nothing", wrote=result.written_rows)
        if result.was_interrupted or result.was_locked_out:
            return
        expected_error = {None: "generation_not_found", "live": "generation_in_use"}.get(self.snapshot.state)
        if result.ran_alone:
            result.expect(
                result.code == expected_error,
                "dropped or not otherwise than it must be",
                code=result.code,
                wanted=expected_error,
            )


@dataclass(frozen=True)
class Diff:
    """A generation is compared with the live one."""

    snapshot: GenerationSnapshot

    def __str__(self) -> str:
        return f"diff {self.snapshot.number} ({self.snapshot.state})"

    def run(self, metering: Metering) -> Any:
        """Compare, by month."""
        return metering.generations.diff(self.snapshot.number)

    def check(self, result: OperationResult) -> None:
        """Each figure that differs is told with what it is and would be."""
        result.expect(not result.written_rows, "comparing changes nothing", wrote=result.written_rows)
        if result.was_interrupted or result.was_locked_out:
            return
        expected_error = {None: "generation_not_found", "building": "generation_in_use"}.get(self.snapshot.state)
        if result.error is not None or expected_error is not None:
            could_not_read = self.snapshot.is_incompatible(result.model) and result.code == "incompatible_rules"
            is_so = result.code == expected_error or could_not_read or not result.ran_alone
            result.expect(is_so, "refused otherwise", code=result.code)
        elif result.ran_alone:
            actual = {
                (difference.event_name, difference.customer, difference.start): (difference.before, difference.after)
                for difference in result.value.differences
            }
            expected = self._expected(result.model)
            result.expect(actual == expected, "other differences", found=actual, expected=expected)

    def _expected(self, model: LedgerModel) -> dict[tuple[str, str, datetime], tuple[Quantity, Quantity]]:
        totals: dict[tuple[str, str, datetime], tuple[Quantity, Quantity]] = {}
        for name, rules in self.snapshot.rules.items():
            totals_by_rules = model.totals_by_month(name, model.head), model.totals_by_month(name, model.head, rules)
            for key in totals_by_rules[0].keys() | totals_by_rules[1].keys():
                before, after = (month_totals.get(key, Quantity(0)) for month_totals in totals_by_rules)
                if before != after:
                    totals[name, *key] = before, after
        return totals
