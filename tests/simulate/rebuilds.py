"""Operations on generations and rules: built, compared, promoted, dropped."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tallybook.application import GenerationView, Metering

from .done import Done
from .model import Book, Quantity, Rules

Changes = Mapping[str, Any]


def changed(rules: Rules, changes: Changes) -> Rules:
    """Rules, some of their fields changed."""
    return replace(rules, **changes)


@dataclass(frozen=True)
class ChangeRules:
    """A meter is counted by other rules from now on; or, where `is_only_tried`, a candidate is built."""

    event_name: str
    changes: Changes
    is_only_tried: bool = False

    def __str__(self) -> str:
        return f"{'candidate' if self.is_only_tried else 'change rules'} {self.event_name!r:.20} {dict(self.changes)}"

    def do(self, metering: Metering) -> object:
        """Ask for it."""
        if self.is_only_tried:
            return metering.candidate(self.event_name, self.changes)
        return metering.change_rules(self.event_name, self.changes, reason="a test")

    def judge(self, done: Done) -> None:
        """Rules that can't read everything recorded are refused, and nothing is changed."""
        allowed = {self._answer(done.book, head) for head in done.heads}
        if done.wrote:
            done.expect("changed" in allowed and not self.is_only_tried, "rules were changed", allowed=allowed)
            judge_changed_rules(done, {self.event_name})
        if done.was_cut_off or done.was_kept_out:
            return
        if done.error is not None:
            moved = set[str]() if done.is_alone else {"rules_moved_on", "no_generation"}
            done.expect_refusal((allowed - {"changed"}) | moved)
            return
        done.expect("changed" in allowed, "done, but can't be", allowed=allowed)
        if done.is_alone and not self.is_only_tried:
            done.expect(done.wrote, "rules were changed, but nothing was written")

    def _answer(self, book: Book, head: int) -> str:
        meter = book.meters(head).get(self.event_name)
        if meter is None:
            return "no_meter"
        wanted = changed(meter.rules, self.changes)
        if wanted == meter.rules:
            return "parameter_invalid"
        return "rules_cannot_read" if book.unreadable(self.event_name, wanted, head) else "changed"


def judge_changed_rules(done: Done, meters: set[str]) -> None:
    """Rules of these meters may have been changed, of all or of none, to what can read everything recorded."""
    names = {row.said["event_name"] for row in done.wrote if row.topic == "RulesChanged"}
    done.expect(len(names) == len(done.wrote) and names <= meters, "other rows were written", wrote=done.wrote)
    for row in done.wrote:
        before = done.book.meters(row.position - 1)[row.said["event_name"]]
        done.expect(row.said["revision"] == before.revision + 1, "a revision was passed over", row=row)
        unreadable = done.book.unreadable(row.said["event_name"], Rules.of(row.said["rules"]), row.position)
        done.expect(not unreadable, "the rules in force can't read these positions", positions=unreadable, row=row)


@dataclass(frozen=True)
class Rebuild:
    """A generation is built beside the live one."""

    rules: Mapping[str, Changes]

    def __str__(self) -> str:
        return f"rebuild {dict(self.rules)}"

    def do(self, metering: Metering) -> GenerationView:
        """Build it."""
        return metering.rebuild(rules={name: dict(changes) for name, changes in self.rules.items()})

    def judge(self, done: Done) -> None:
        """It is ready at the end, or refused for rules that can't read what is recorded."""
        done.expect(not done.wrote, "rebuilding changes nothing", wrote=done.wrote)
        if done.was_cut_off or done.was_kept_out:
            return
        allowed = {self._answer(done.book, head) for head in done.heads}
        if done.error is not None:
            done.expect_refusal(allowed - {"built"})
            return
        done.expect("built" in allowed, "built, but can't be", allowed=allowed)
        done.expect(done.value.position >= min(done.heads), "built in part", generation=done.value)

    def _answer(self, book: Book, head: int) -> str:
        meters = book.meters(head)
        if not self.rules.keys() <= meters.keys():
            return "no_meter"
        wanted = {name: changed(meters[name].rules, changes) for name, changes in self.rules.items()}
        is_unreadable = any(book.unreadable(name, rules, head) for name, rules in wanted.items())
        return "rules_cannot_read" if is_unreadable else "built"


@dataclass(frozen=True)
class Seen:
    """A generation as it was seen before an operation on it; None where there is none."""

    number: int
    state: str | None
    rules: Mapping[str, Rules]

    @classmethod
    def of(cls, view: GenerationView) -> "Seen":
        """What is seen of a generation."""
        rules = {
            name: Rules(one.formula, one.event_time_window, one.customer_key, one.value_key, one.dimension_keys)
            for name, one in view.rules.items()
        }
        return cls(view.number, str(view.state), rules)

    def unreadable(self, book: Book) -> bool:
        """Whether its rules can't read something that is recorded."""
        return any(book.unreadable(name, rules, book.head) for name, rules in self.rules.items())


@dataclass(frozen=True)
class Promote:
    """A generation is to answer."""

    seen: Seen
    reason: str | None

    def __str__(self) -> str:
        return (
            f"promote {self.seen.number} ({self.seen.state}) {'with a reason' if self.reason else 'without a reason'}"
        )

    def do(self, metering: Metering) -> GenerationView:
        """Promote it."""
        return metering.promote(self.seen.number, reason=self.reason)

    def judge(self, done: Done) -> None:
        """It answers, under its own rules, which are put in force together; or nothing has changed."""
        is_alone, rules = done.is_alone, self.seen.rules
        judge_changed_rules(done, set(rules) if is_alone else set(done.book.meters(done.book.head)))
        done.expect(not done.wrote or len(done.wrote) == len(rules) or not is_alone, "changed in part", rules=rules)
        if done.was_cut_off or done.was_kept_out:
            return
        allowed = self._answers(done.book)
        if done.error is not None:
            others = set[str]() if is_alone else {"no_generation", "rules_cannot_read", "parameter_invalid"}
            done.expect(done.code in allowed | others, "refused otherwise", code=done.code, allowed=allowed)
            return
        done.expect("promoted" in allowed or not is_alone, "promoted, but can't be", allowed=allowed)
        done.expect(done.value.state == "live" or not is_alone, "promoted, and doesn't answer", generation=done.value)
        if is_alone and self.seen.state != "live":
            found = done.book.meters(done.book.head)
            is_so = all(found[name].rules == rules for name, rules in rules.items())
            done.expect(is_so, "promoted, and its rules are not in force", rules=rules)

    def _answers(self, book: Book) -> set[str]:
        match self.seen.state:
            case None:
                return {"no_generation"}
            case "building":
                return {"generation_in_use"}
            case "live":
                return {"promoted"}
            case _ if self.seen.rules and self.reason is None:
                return {"parameter_invalid"}
            case _ if not self.seen.rules:
                return {"promoted"}
            case _:
                moved = {"rules_moved_on"} if any(book.of("RulesChanged", until=book.head)) else set[str]()
                return moved | {"rules_cannot_read" if self.seen.unreadable(book) else "promoted"}


@dataclass(frozen=True)
class Drop:
    """A generation is done away with."""

    seen: Seen

    def __str__(self) -> str:
        return f"drop {self.seen.number} ({self.seen.state})"

    def do(self, metering: Metering) -> None:
        """Drop it."""
        metering.drop_generation(self.seen.number)

    def judge(self, done: Done) -> None:
        """The live one can't be dropped."""
        done.expect(not done.wrote, "dropping changes nothing", wrote=done.wrote)
        if done.was_cut_off or done.was_kept_out:
            return
        wanted = {None: "no_generation", "live": "generation_in_use"}.get(self.seen.state)
        if done.is_alone:
            done.expect(done.code == wanted, "dropped or not otherwise than it must be", code=done.code, wanted=wanted)


@dataclass(frozen=True)
class Diff:
    """A generation is compared with the live one."""

    seen: Seen

    def __str__(self) -> str:
        return f"diff {self.seen.number} ({self.seen.state})"

    def do(self, metering: Metering) -> Any:
        """Compare, by month."""
        return metering.diff(self.seen.number)

    def judge(self, done: Done) -> None:
        """Each figure that differs is told with what it is and would be."""
        done.expect(not done.wrote, "comparing changes nothing", wrote=done.wrote)
        if done.was_cut_off or done.was_kept_out:
            return
        wanted = {None: "no_generation", "building": "generation_in_use"}.get(self.seen.state)
        if done.error is not None or wanted is not None:
            could_not_read = self.seen.unreadable(done.book) and done.code == "rules_cannot_read"
            is_so = done.code == wanted or could_not_read or not done.is_alone
            done.expect(is_so, "refused otherwise", code=done.code)
        elif done.is_alone:
            found = {
                (one.event_name, one.customer, one.start): (one.before, one.after) for one in done.value.differences
            }
            expected = self._expected(done.book)
            done.expect(found == expected, "other differences", found=found, expected=expected)

    def _expected(self, book: Book) -> dict[tuple[str, str, datetime], tuple[Quantity, Quantity]]:
        figures: dict[tuple[str, str, datetime], tuple[Quantity, Quantity]] = {}
        for name, rules in self.seen.rules.items():
            ways = book.by_month(name, book.head), book.by_month(name, book.head, rules)
            for key in ways[0].keys() | ways[1].keys():
                before, after = (way.get(key, Quantity(0)) for way in ways)
                if before != after:
                    figures[name, *key] = before, after
        return figures
