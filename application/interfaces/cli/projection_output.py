"""The output of the `projection` commands, and the values it shows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..condition_text import format_filter
from ..formatting import (
    format_count,
    format_difference,
    format_effective_from,
    format_number,
    format_rounding,
    format_rules,
    format_window_start,
)
from .columns import dimension_cells, dimension_keys, dimension_titles
from .tables import fields, table
from .terminal import say, without_column

if TYPE_CHECKING:
    from ....domain.rules import Rules
    from ...meter_views import MeterView
    from ...queries.comparison import CustomerDifference, GenerationDifference, MeterDifference
    from ...results import GenerationView

_RULE_FORMATS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "formula": ("formula", str),
    "event_time_window": ("window", str),
    "customer_key": ("customer key", str),
    "value_key": ("value key", str),
    "dimension_keys": ("dimension keys", " and ".join),
    "optional_dimension_keys": ("optional dimension keys", " and ".join),
    "filter": ("filter", format_filter),
    "multiplier": ("multiplier", str),
    "rounding": ("rounding", format_rounding),
}
"""The name of each rule, and the function that formats it if it is set."""


@dataclass(frozen=True)
class LimitedDifference:
    """How a generation differs from the live one, largest differences first; `left_out` smaller ones are omitted.

    `digest` identifies all differences; it is None if they are selected or grouped by dimension values.
    """

    generation: int
    position: int
    window: str
    timezone: str
    meters: "tuple[MeterDifference, ...]"
    differences: "tuple[CustomerDifference, ...]"
    left_out: int
    digest: str | None

    @classmethod
    def from_difference(
        cls, difference: "GenerationDifference", window: str, timezone: str, limit: int
    ) -> "LimitedDifference":
        """Return a difference with at most `limit` customer differences."""
        shown = difference.sorted_by_size[:limit]
        left_out = len(difference.differences) - len(shown)
        return cls(
            difference.generation, difference.position, window, timezone, difference.meters, shown, left_out,
            difference.digest,
        )  # fmt: skip


@dataclass(frozen=True)
class Promotion:
    """The generation that became live, the meters whose rules it changed, and the generation that it retired.

    `effective_from` is the time of usage from which on the rules of each meter changed, None for all usage.
    """

    generation: "GenerationView"
    meters: "tuple[MeterView, ...]"
    effective_from: "dict[str, datetime | None]"
    retired: int | None


def show_generations(current_rules: Mapping[str, "MeterView"], generations: Sequence["GenerationView"]) -> None:
    """Print one line for each generation, with its rules that differ from the current rules."""
    rows = [
        (str(generation.number), generation.state,
         f"{format_number(generation.position)} of {format_number(generation.head)}",
         "; ".join(_changed_rules(generation, current_rules)))
        for generation in generations
    ]  # fmt: skip
    table(("generation", "state", "position", "changed rules"), rows, right=("generation", "position"))


def show_built(generation: "GenerationView") -> None:
    """Print the number and position of a new generation, and the commands for it."""
    position = format_number(generation.position)
    say(
        f"Generation {generation.number} is {generation.state}, built up to position {position}. "
        "The live read models are unchanged."
    )
    show_next_commands(generation.number, "")


def show_next_commands(generation: int, promote_options: str) -> None:
    """Print the commands for a generation that is not live."""
    commands = {
        f"tallybook projection diff {generation}": "show what it would change",
        f"tallybook projection promote {generation}{promote_options}": "make it live",
        f"tallybook projection drop {generation}": "delete it",
    }
    width = max(map(len, commands))
    for command, description in commands.items():
        say(f"  {command:<{width}}   {description}")


def show_difference(selection: str, difference: LimitedDifference) -> None:
    """Print a difference under a heading, which ends with the selection of dimension values."""
    position = format_number(difference.position)
    say(f"Generation {difference.generation} compared with the live one, up to position {position}{selection}")
    show_changed_totals(difference)


def show_changed_totals(difference: LimitedDifference) -> None:
    """Print the total of each meter before and after, then those of customers that differ, and the digest.

    The largest differences are first. Each says whether the customer's periods are closed, and has the billable
    quantities, unless all of them are the totals.
    """
    _show_totals(difference)
    if difference.digest is not None:
        say()
        fields((("digest", difference.digest),))


def _show_totals(difference: LimitedDifference) -> None:
    numbers, billable = ("before", "after", "difference"), _billable_titles(difference.differences)
    meters = [
        (meter.event_name, format_number(meter.customers), format_number(meter.before), format_number(meter.after),
         format_difference(meter.difference))
        for meter in difference.meters
    ]  # fmt: skip
    table(("meter", "changed customers", *numbers), meters, right=("changed customers", *numbers))
    if not difference.differences and not difference.left_out:
        say("No total differs.")
        return
    say()
    keys, window = dimension_keys(difference.differences), f"{difference.window} ({difference.timezone})"
    rows = list(_difference_rows(difference, keys, with_billable=bool(billable)))
    others = ("meter", "customer", window, "state", *numbers, *billable)
    columns = (*others[:4], *dimension_titles(keys, others), *numbers, *billable)
    if len({row[0] for row in rows}) == 1:
        columns, rows = without_column(0, columns), [without_column(0, row) for row in rows]
    table(columns, rows, right=(*numbers, *billable), whole=(window,))
    if note := left_out_note(difference):
        say(note)


def left_out_note(difference: LimitedDifference) -> str:
    """Return how many differences are omitted, and the option that shows them; empty if none is."""
    count = difference.left_out
    return f"and {format_count(count, 'smaller difference')}; --limit shows more." if count else ""


def show_promotion(promotion: Promotion) -> None:
    """Print the generation that is live now, the rules that changed, and the command that goes back."""
    say(f"Generation {promotion.generation.number} is live.")
    for meter in promotion.meters:
        rules, revision = _newest_rules(meter)
        effective_from = format_effective_from(promotion.effective_from[meter.event_name])
        say(f"{meter.event_name} is now counted by {format_rules(rules)}{effective_from}, rules revision {revision}.")
    if promotion.meters:
        say("Closed periods are unchanged.")
    if promotion.retired is not None:
        command = f"tallybook projection promote {promotion.retired}{' --reason ...' if promotion.meters else ''}"
        say(f"Generation {promotion.retired} is retired; '{command}' makes it live again.")


def show_dropped(dropped: Mapping[str, int]) -> None:
    """Print that a generation was deleted."""
    say(f"Generation {dropped['dropped']} is deleted.")


def _billable_titles(differences: Iterable["CustomerDifference"]) -> tuple[str, ...]:
    """Return the titles of the columns of billable quantities; none if all of them are the totals."""
    are_totals = all((row.billable_before, row.billable_after) == (row.before, row.after) for row in differences)
    return () if are_totals else ("billable before", "billable after")


def _difference_rows(
    difference: LimitedDifference, keys: Sequence[str], *, with_billable: bool
) -> Iterator[tuple[str, ...]]:
    from ....domain.calendar import get_timezone  # noqa: PLC0415 - loads the domain

    zone = get_timezone(difference.timezone)
    for row in difference.differences:
        start = format_window_start(row.start, difference.window, zone)
        before, after = format_number(row.before), format_number(row.after)
        dimensions = dimension_cells(keys, row.dimensions)
        state = row.state.replace("_", " ")
        cells = (row.event_name, row.customer, start, state, *dimensions, before, after)
        billable = (row.billable_before, row.billable_after) if with_billable else ()
        yield (*cells, format_difference(row.difference), *map(format_number, billable))


def _newest_rules(meter: "MeterView") -> "tuple[MeterView | Rules, int]":
    """Return the newest rules of a meter, which may be announced for later usage, and their revision."""
    return (meter.upcoming[-1].rules, meter.upcoming[-1].revision) if meter.upcoming else (meter, meter.revision)


def _changed_rules(generation: "GenerationView", current_rules: Mapping[str, "MeterView"]) -> Iterator[str]:
    """Yield for each meter the rules of a generation that differ from its newest rules, and from when on."""
    for event_name, rules in generation.rules.items():
        if event_name not in current_rules:
            yield f"{event_name}: derived, not configured yet"
            continue
        newest_rules, _ = _newest_rules(current_rules[event_name])
        changes = [
            f"{name} {format_rule(rule) if rule else 'none'}"
            for field, (name, format_rule) in _RULE_FORMATS.items()
            if (rule := getattr(rules, field)) != getattr(newest_rules, field)
        ]
        effective_from = format_effective_from(generation.effective_from[event_name])
        yield f"{event_name}: {', '.join(changes) or 'the same rules'}{effective_from}"
