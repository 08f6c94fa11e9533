"""A change of rules as people read it."""

import shlex
from typing import TYPE_CHECKING

from .generation_tables import show_choices, show_figures, show_promotion
from .terminal import say
from .wording import number, rules_in_words

if TYPE_CHECKING:
    from .rule_change import RuleChange


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
