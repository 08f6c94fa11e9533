"""Reading the rules that calls name: all of them, or some in place of a meter's."""

from collections.abc import Mapping
from typing import cast

from ..domain.errors import InvalidParameter
from ..domain.rules import EventTimeWindow, Formula, Rules
from ..domain.texts import shown
from .arguments import choice, text, texts

MOST_DIMENSIONS = 10


def rules(
    formula: object, event_time_window: object, customer_key: object, value_key: object, dimension_keys: object
) -> Rules:
    """The rules that these say. Raises InvalidParameter."""
    return Rules(
        formula=choice(formula, "formula", Formula),
        event_time_window=(
            None if event_time_window is None else choice(event_time_window, "event_time_window", EventTimeWindow)
        ),
        customer_key=text(customer_key, "customer_key", 100),
        value_key=text(value_key, "value_key", 100),
        dimension_keys=texts(dimension_keys, "dimension_keys", 100, most=MOST_DIMENSIONS),
    )


def changed(present: Rules, changes: object) -> Rules:
    """Rules with `changes`, a mapping of some of their fields, in place of what they say. Raises InvalidParameter."""
    if not isinstance(changes, Mapping) or not changes.keys() <= Rules.model_fields.keys():
        fields = ", ".join(repr(field) for field in Rules.model_fields)
        raise InvalidParameter(
            f"'rules' must map some of {fields} to what they become, not {shown(cast(object, changes))}.",
            field="rules",
            value=cast(object, changes),
        )
    return rules(**{**dict(present), **cast(Mapping[str, object], changes)})
