"""A change of rules as people read it."""

import shlex
from typing import TYPE_CHECKING

from .generation_tables import show_choices, show_figures, show_promotion
from .terminal import say, table
from .wording import number, rules_in_words

if TYPE_CHECKING:
    from ...domain.errors import RulesCannotRead
    from .rule_change import RuleChange

MOST_UNREADABLE = 20
"""So many payloads that can't be read are listed; JSON lists more."""


def show_change(reason: str | None, by: str | None, change: "RuleChange") -> None:
    """What the rules change, and what to do now, or what was done."""
    candidate = change.candidate
    place = f"generation {candidate.number}, up to position {number(candidate.position)}"
    say(f"{change.event_name} counted by {rules_in_words(change.rules)}, in {place}")
    show_figures(change.difference)
    say()
    if change.promotion is not None:
        show_promotion(change.promotion)
        return
    say("Nothing is changed yet.")
    given = "..." if reason is None else shlex.quote(reason)
    show_choices(candidate.number, f" --reason {given}{'' if by is None else f' --by {shlex.quote(by)}'}")


def show_unreadable(error: "RulesCannotRead") -> None:
    """The first of the payloads that new rules can't read."""
    shown = error.uses[:MOST_UNREADABLE]
    rows = [(number(one.position), one.identifier, one.code, one.message) for one in shown]
    table(("position", "identifier", "code", "why"), rows, right=("position",))
    if error.count > len(shown):
        say(f"and {number(error.count - len(shown))} more.")
