"""Generations of the read models as people read them: where they stand, and what they would change."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .terminal import say, table, without
from .wording import counted, number, opening, rules_in_words, signed

if TYPE_CHECKING:
    from ...domain.rules import Rules
    from ..results import GenerationView, MeterView
    from .differing import Differing
    from .promotion import Promotion

_WORDS = {
    "formula": "formula",
    "event_time_window": "window",
    "customer_key": "customer key",
    "value_key": "value key",
    "dimension_keys": "dimension keys",
}


def show_generations(in_force: Mapping[str, "MeterView"], generations: Sequence["GenerationView"]) -> None:
    """One line for each generation, with the rules that are not in force."""
    rows = [
        (str(one.number), one.state, f"{number(one.position)} of {number(one.head)}",
         "; ".join(_other_rules(one.rules, in_force)))
        for one in generations
    ]  # fmt: skip
    table(("generation", "state", "position", "rules that are not in force"), rows, right=("generation", "position"))


def show_built(generation: "GenerationView") -> None:
    """A generation that was built, and what to do with it."""
    said = f"Generation {generation.number} is {generation.state}, built up to position {number(generation.position)}."
    say(f"{said} The live read models are untouched.")
    show_choices(generation.number, "")


def show_choices(generation: int, options: str) -> None:
    """What can be done with a generation that isn't live."""
    choices = {
        f"tallybook projection diff {generation}": "shows what it would change",
        f"tallybook projection promote {generation}{options}": "lets it answer",
        f"tallybook projection drop {generation}": "does away with it",
    }
    width = max(map(len, choices))
    for command, does in choices.items():
        say(f"  {command:<{width}}   {does}")


def show_difference(differing: "Differing") -> None:
    """What each meter comes to before and after, then the figures that differ, the largest first."""
    say(f"Generation {differing.generation} beside the live one, up to position {number(differing.position)}")
    show_figures(differing)


def show_figures(differing: "Differing") -> None:
    """What each meter comes to before and after, then the figures that differ, the largest first."""
    figures = ("before", "after", "difference")
    meters = [
        (one.event_name, number(one.customers), number(one.before), number(one.after), signed(one.difference))
        for one in differing.meters
    ]
    table(("meter", "customers that differ", *figures), meters, right=("customers that differ", *figures))
    if not differing.differences and not differing.left_out:
        say("No figure differs.")
        return
    say()
    rows = list(_differences(differing))
    columns = ("meter", "customer", f"{differing.window} ({differing.timezone})", *figures)
    if len({row[0] for row in rows}) == 1:
        columns, rows = without(0, columns), [without(0, row) for row in rows]
    table(columns, rows, right=figures)
    if differing.left_out:
        say(f"and {counted(differing.left_out, 'smaller difference')}; --limit shows more.")


def show_promotion(promotion: "Promotion") -> None:
    """Which generation answers now, under which rules, and the way back."""
    say(f"Generation {promotion.generation.number} answers from now on.")
    for meter in promotion.meters:
        say(f"{meter.event_name} is counted by {rules_in_words(meter)} now: revision {meter.revision} of its rules.")
    if promotion.meters:
        say("Closed periods stay as they are.")
    if promotion.retired is not None:
        back = f"tallybook projection promote {promotion.retired}{' --reason ...' if promotion.meters else ''}"
        say(f"Generation {promotion.retired} is kept; '{back}' is the way back.")


def show_dropped(dropped: Mapping[str, int]) -> None:
    """That a generation is gone."""
    say(f"Generation {dropped['dropped']} is done away with.")


def _differences(differing: "Differing") -> Iterator[tuple[str, ...]]:
    from ...domain.calendar import zone  # noqa: PLC0415 - loads the domain

    local = zone(differing.timezone)
    for one in differing.differences:
        period = opening(one.start, differing.window, local)
        yield (one.event_name, one.customer, period, number(one.before), number(one.after), signed(one.difference))


def _other_rules(rules: Mapping[str, "Rules"], in_force: Mapping[str, "MeterView"]) -> Iterator[str]:
    """Of each meter, the rules that differ from those in force."""
    for event_name, others in rules.items():
        changes = [
            f"{words} {_cell(getattr(others, field))}"
            for field, words in _WORDS.items()
            if getattr(others, field) != getattr(in_force[event_name], field)
        ]
        yield f"{event_name}: {', '.join(changes)}"


def _cell(rule: str | tuple[str, ...] | None) -> str:
    return (" and ".join(rule) if isinstance(rule, tuple) else rule) or "none"
