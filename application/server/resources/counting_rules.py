"""The rules that a meter counts by, as they are told, and as others are asked for."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ....domain.rules import Rules
from ...results import MeterView
from ..wire import Name, Parameters
from .meters import Aggregation, CustomerMapping, ValueSettings, Window


class CountingRules(msgspec.Struct, kw_only=True):
    """Rules, in the words of a meter."""

    customer_mapping: CustomerMapping
    default_aggregation: Aggregation
    dimension_payload_keys: list[str] | None
    event_time_window: Window | None
    value_settings: ValueSettings

    @classmethod
    def of(cls, rules: Rules) -> "CountingRules":
        """The rules as they are told."""
        window = rules.event_time_window
        return cls(
            customer_mapping=CustomerMapping(event_payload_key=rules.customer_key),
            default_aggregation=Aggregation(rules.formula.value),
            dimension_payload_keys=list(rules.dimension_keys) or None,
            event_time_window=None if window is None else window.value,
            value_settings=ValueSettings(rules.value_key),
        )


class OtherCustomerMapping(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where in the payload the customer shall be found."""

    event_payload_key: Name
    type: Literal["by_id"] = "by_id"


class OtherValueSettings(msgspec.Struct, forbid_unknown_fields=True):
    """Where in the payload the value shall be found."""

    event_payload_key: Name


class OtherRules(Parameters, kw_only=True):
    """Rules that a meter shall count by instead. What isn't given stays as it is.

    `event_time_window` is `none` for every event to stand for itself. An empty `dimension_payload_keys`, which only
    JSON can say, takes all of them away.
    """

    customer_mapping: OtherCustomerMapping | None = None
    default_aggregation: Aggregation | None = None
    dimension_payload_keys: Annotated[list[Name], Meta(max_length=10)] | None = None
    event_time_window: Literal["day", "hour", "none"] | None = None
    value_settings: OtherValueSettings | None = None


def changes_of(asked: OtherRules) -> dict[str, object]:
    """What is asked to become of rules, in the words of the ledger."""
    changes: dict[str, object] = {}
    if asked.default_aggregation is not None:
        changes["formula"] = asked.default_aggregation.formula
    if asked.event_time_window is not None:
        changes["event_time_window"] = None if asked.event_time_window == "none" else asked.event_time_window
    if asked.customer_mapping is not None:
        changes["customer_key"] = asked.customer_mapping.event_payload_key
    if asked.value_settings is not None:
        changes["value_key"] = asked.value_settings.event_payload_key
    if asked.dimension_payload_keys is not None:
        changes["dimension_keys"] = tuple(asked.dimension_payload_keys)
    return changes


def counts_by(meter: MeterView, changes: dict[str, object]) -> bool:
    """Whether a meter counts by these already."""
    return all(getattr(meter, field) == value for field, value in changes.items())
