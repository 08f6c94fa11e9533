"""An explanation as people read it: each event, what it contributes, and the sum."""

from typing import TYPE_CHECKING

from .tables import heading
from .terminal import say, table, without
from .wording import counted_by, number, verdict, when

if TYPE_CHECKING:
    from ..results import Explanation
    from .periods import Span

FEW = 8
"""So many values are written out as a sum; of more only what they come to."""


def show_explanation(event_name: str, span: "Span", explanation: "Explanation") -> None:
    """The meter events behind a total, and what they add up to."""
    total, events = explanation.total, explanation.events
    say(heading(event_name, total.customer, span))
    if events:
        rows = [
            (when(one.occurred_at, span.timezone), one.identifier, one.customer, number(one.value),
             number(one.contribution), verdict(one))
            for one in events
        ]  # fmt: skip
        columns = ("occurred at", "identifier", "customer", "value", "contribution", "verdict")
        if len({one.customer for one in events}) == 1:
            columns, rows = without(2, columns), [without(2, row) for row in rows]
        table(columns, rows, right=("value", "contribution"))
    say(f"{number(total.count)} of {number(len(events))} count: {_arithmetic(explanation)}")
    say(f"rules revision {explanation.revision}, ledger position {explanation.position}")
    say(f"SHA-256 {explanation.digest}")


def _arithmetic(explanation: "Explanation") -> str:
    """How the figure is made, with the values where these are few."""
    counting = counted_by(explanation.formula, explanation.event_time_window)
    figure = number(explanation.total.value)
    values = [one.contribution for one in explanation.events if one.verdict == "counted" and one.value is not None]
    if explanation.formula != "sum" or not 1 < len(values) <= FEW:
        return f"{counting} = {figure}"
    first, *others = values
    signs = "".join(f" {'-' if value < 0 else '+'} {number(abs(value))}" for value in others)
    return f"{counting} = {number(first)}{signs} = {figure}"
