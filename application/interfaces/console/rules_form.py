"""The form that describes changed rules of a meter."""

from typing import Any

import typer

from ....domain.event_time_window import EventTimeWindow
from ....domain.formulas import Formula
from ...meter_views import MeterView
from ..condition_text import parse_filter, parse_rounding
from ..formatting import format_filter, format_number
from ..http.errors import invalid_parameter
from .query_string import Parameters

FORMULAS = [(str(formula), str(formula)) for formula in Formula]
WINDOWS = [("none", "every event counts"), *((str(one), f"the newest of each {one}") for one in EventTimeWindow)]


def form_values(meter: MeterView) -> dict[str, str]:
    """Return the fields of the form for the present rules of a meter."""
    rounding = meter.rounding
    return {
        "formula": str(meter.formula),
        "event_time_window": str(meter.event_time_window or "none"),
        "multiplier": "" if meter.multiplier is None else str(meter.multiplier),
        "rounding": "" if rounding is None else f"{rounding.mode}:{format_number(rounding.step)}",
        "filter": "" if meter.filter is None else format_filter(meter.filter),
    }


def entered_values(meter: MeterView, params: Parameters) -> dict[str, str]:
    """Return the fields of the form as they were entered."""
    return {name: params.exact(name) for name in (*form_values(meter), "effective_from")}


def changed_rules(meter: MeterView, params: Parameters) -> dict[str, Any]:
    """Return the rules that a form changes, as arguments of `rules.change`; all of them if it says so.

    A rule that changes later has to be among them. Raises ApiError if the form changes none.
    """
    before, entered = form_values(meter), {name: params.exact(name) for name in form_values(meter)}
    has_all = params.is_set("all_rules")
    changed = {name: text for name, text in entered.items() if has_all or text != before[name]}
    if not changed:
        raise invalid_parameter("rules", "The form has the present rules. Change at least one of them.")
    try:
        return {name: _parse(name, text) for name, text in changed.items()}
    except typer.BadParameter as error:
        raise invalid_parameter("filter", error.message) from None


def _parse(name: str, text: str) -> object:
    """Return a rule as an argument of `rules.change`; None removes it. Raises BadParameter."""
    match name:
        case "formula":
            return text
        case "filter":
            return parse_filter([text]) if text else None
        case "rounding":
            return parse_rounding(text) if text else None
        case _:
            return None if text in ("", "none") else text
