"""The rules of meters in parameters and responses."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ....domain.decimals import to_plain_string
from ....domain.formulas import Formula
from ....domain.rounding import RoundingMode
from ....domain.rules import Rules
from ...meter_views import MeterView
from .api_types import Name

Window = Literal["day", "hour"]
DecimalText = Annotated[str, Meta(pattern=r"^-?[0-9]{1,30}(\.[0-9]{1,30})?$", description="A decimal, as text.")]
PositiveText = Annotated[str, Meta(pattern=r"^[0-9]{1,30}(\.[0-9]{1,30})?$", description="A decimal above 0, as text.")]


class Aggregation(msgspec.Struct, forbid_unknown_fields=True):
    """How values are aggregated."""

    formula: Formula


class CustomerMapping(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The payload key of the customer."""

    event_payload_key: Name = "stripe_customer_id"
    type: Literal["by_id"] = "by_id"


class ValueSettings(msgspec.Struct, forbid_unknown_fields=True):
    """The payload key of the value."""

    event_payload_key: Name = "value"


class Condition(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A condition on a payload: a `key` with `equals`, `one_of`, `exists` or bounds; or `not`, `all`, `any` of others.

    Bounds compare numbers. Text that is no number matches none.
    """

    key: Name | None = None
    equals: str | None = None
    one_of: Annotated[list[str], Meta(max_length=1_000)] | None = None
    exists: bool | None = None
    greater_than: DecimalText | None = None
    at_least: DecimalText | None = None
    less_than: DecimalText | None = None
    at_most: DecimalText | None = None
    negated: "Condition | None" = msgspec.field(name="not", default=None)
    all_of: "Annotated[list[Condition], Meta(max_length=100)] | None" = msgspec.field(name="all", default=None)
    any_of: "Annotated[list[Condition], Meta(max_length=100)] | None" = msgspec.field(name="any", default=None)


class Rounding(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Rounds the billed quantity to a multiple of `step`."""

    mode: RoundingMode
    step: PositiveText = "1"


class RulesObject(msgspec.Struct, kw_only=True):
    """Rules, in the form of a meter's fields."""

    customer_mapping: CustomerMapping
    default_aggregation: Aggregation
    dimension_payload_keys: list[str] | None
    event_time_window: Window | None
    filter: Condition | None
    multiplier: str | None
    optional_dimension_payload_keys: list[str] | None
    rounding: Rounding | None
    value_settings: ValueSettings

    @classmethod
    def from_rules(cls, rules: Rules) -> "RulesObject":
        """Return the object of rules."""
        return cls(**rules_fields(rules))


class UpcomingRules(RulesObject, kw_only=True):
    """Announced rules of a meter, for usage from `effective_from` on."""

    effective_from: int
    revision: int


def rules_fields(rules: Rules | MeterView) -> dict[str, Any]:
    """Return the fields of a RulesObject, from rules or from a meter."""
    window, filtered, rounding = rules.event_time_window, rules.filter, rules.rounding
    return {
        "customer_mapping": CustomerMapping(event_payload_key=rules.customer_key),
        "default_aggregation": Aggregation(rules.formula),
        "dimension_payload_keys": list(rules.dimension_keys) or None,
        "event_time_window": None if window is None else window.value,
        "filter": None if filtered is None else msgspec.convert(filtered.model_dump(mode="json"), Condition),
        "multiplier": None if rules.multiplier is None else str(rules.multiplier),
        "optional_dimension_payload_keys": list(rules.optional_dimension_keys) or None,
        "rounding": None if rounding is None else Rounding(mode=rounding.mode, step=to_plain_string(rounding.step)),
        "value_settings": ValueSettings(rules.value_key),
    }
