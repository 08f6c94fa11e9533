"""Parameters of rules: those of a new meter, of a change of rules and of its preview."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ...rules_arguments import MAX_DIMENSIONS, RulesArguments
from .api_types import Name, Parameters
from .rules_objects import Aggregation, Condition, Rounding


class CustomerMappingParams(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The new payload key of the customer."""

    event_payload_key: Name
    type: Literal["by_id"] = "by_id"


class ValueSettingsParams(msgspec.Struct, forbid_unknown_fields=True):
    """The new payload key of the value."""

    event_payload_key: Name


_DimensionKeys = Annotated[list[Name], Meta(max_length=MAX_DIMENSIONS)]
_Multiplier = Annotated[
    str,
    Meta(
        pattern=r"^(none|[0-9]{1,30}(\.[0-9]{1,30})?(/[0-9]{1,30}(\.[0-9]{1,30})?)?)$",
        description="A number above 0 or a fraction, as text, such as 0.001 or 1/3600; or none.",
    ),
]


class RulesParams(Parameters, kw_only=True):
    """New rules of a meter. Omitted fields stay unchanged.

    `none` removes the event time window, after which no event supersedes another, the filter, the multiplier or the
    rounding. An empty list of dimensions, which only JSON can express, removes all of them.
    """

    customer_mapping: CustomerMappingParams | None = None
    default_aggregation: Aggregation | None = None
    dimension_payload_keys: _DimensionKeys | None = None
    event_time_window: Literal["day", "hour", "none"] | None = None
    filter: Condition | Literal["none"] | None = None
    multiplier: _Multiplier | None = None
    optional_dimension_payload_keys: _DimensionKeys | None = None
    rounding: Rounding | Literal["none"] | None = None
    value_settings: ValueSettingsParams | None = None


def to_rule_changes(params: RulesParams) -> RulesArguments:
    """Return the changed fields of the rules, by the library's names."""
    changes = RulesArguments()
    if params.default_aggregation is not None:
        changes["formula"] = params.default_aggregation.formula
    if params.event_time_window is not None:
        changes["event_time_window"] = _none_or_plain(params.event_time_window)
    if params.customer_mapping is not None:
        changes["customer_key"] = params.customer_mapping.event_payload_key
    if params.value_settings is not None:
        changes["value_key"] = params.value_settings.event_payload_key
    if params.dimension_payload_keys is not None:
        changes["dimension_keys"] = params.dimension_payload_keys
    if params.optional_dimension_payload_keys is not None:
        changes["optional_dimension_keys"] = params.optional_dimension_payload_keys
    if params.filter is not None:
        changes["filter"] = _none_or_plain(params.filter)
    if params.multiplier is not None:
        changes["multiplier"] = _none_or_plain(params.multiplier)
    if params.rounding is not None:
        changes["rounding"] = _none_or_plain(params.rounding)
    return changes


def _none_or_plain(value: str | Condition | Rounding) -> object:
    return None if value == "none" else msgspec.to_builtins(value)
