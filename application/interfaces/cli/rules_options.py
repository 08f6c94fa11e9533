"""The options that describe the rules of a meter: those of a new meter, and those of a rule change."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ..condition_text import parse_filter, parse_rounding

FormulaOption = Annotated[
    str | None,
    typer.Option(
        metavar="FORMULA", help="How values become a quantity: sum, count, last, max, min, avg or unique_count."
    ),
]
WindowOption = Annotated[
    str | None,
    typer.Option(
        metavar="WINDOW",
        help="hour or day: only the newest meter event of each UTC window counts. Or none.",
    ),
]
CustomerKeyOption = Annotated[str | None, typer.Option(metavar="KEY", help="The payload key of the customer.")]
ValueKeyOption = Annotated[str | None, typer.Option(metavar="KEY", help="The payload key of the value.")]
DimensionKeysOption = Annotated[
    list[str] | None,
    typer.Option("--dimension-key", metavar="KEY", help="A payload key that is a dimension of usage. Repeatable."),
]
OptionalDimensionKeysOption = Annotated[
    list[str] | None,
    typer.Option(
        "--optional-dimension-key", metavar="KEY", help="A dimension that payloads may leave out. Repeatable."
    ),
]
FilterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="CONDITION",
        help="Count only meter events whose payload matches: KEY=VALUE, KEY!=VALUE or a condition in JSON. Repeatable: "
        "all must match; of the same key, any of the values.",
    ),
]
MultiplierOption = Annotated[
    str | None, typer.Option(metavar="NUMBER", help="Multiply the quantity, exactly: like 0.001 or 1/3600.")
]
RoundingOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODE[:STEP]", help="Round the billable quantity up, down or half_up to a multiple of the step, 1 by "
        "default: like up or half_up:0.01."
    ),
]  # fmt: skip
NoDimensionKeysOption = Annotated[bool, typer.Option("--no-dimension-keys", help="Remove all dimension keys.")]
NoOptionalDimensionKeysOption = Annotated[
    bool, typer.Option("--no-optional-dimension-keys", help="Remove all optional dimension keys.")
]
NoFilterOption = Annotated[bool, typer.Option("--no-filter", help="Remove the filter.")]
NoMultiplierOption = Annotated[bool, typer.Option("--no-multiplier", help="Remove the multiplier.")]
NoRoundingOption = Annotated[bool, typer.Option("--no-rounding", help="Remove the rounding.")]


@dataclass(frozen=True)
class RulesOptions:
    """Options for each rule of a meter."""

    formula: FormulaOption = None
    window: WindowOption = None
    customer_key: CustomerKeyOption = None
    value_key: ValueKeyOption = None
    dimension_keys: DimensionKeysOption = None
    optional_dimension_keys: OptionalDimensionKeysOption = None
    filters: FilterOption = None
    multiplier: MultiplierOption = None
    rounding: RoundingOption = None

    def arguments(self) -> dict[str, Any]:
        """Return the rules that options name, as arguments of `meters.configure`. Raises BadParameter."""
        arguments = {
            "formula": self.formula,
            "event_time_window": self.window,
            "customer_key": self.customer_key,
            "value_key": self.value_key,
            "dimension_keys": self.dimension_keys or None,
            "optional_dimension_keys": self.optional_dimension_keys or None,
            "filter": parse_filter(self.filters) if self.filters else None,
            "multiplier": self.multiplier,
            "rounding": None if self.rounding is None else parse_rounding(self.rounding),
        }
        named = {name: value for name, value in arguments.items() if value is not None}
        return named | ({"event_time_window": None} if self.window == "none" else {})


@dataclass(frozen=True)
class NewRulesOptions(RulesOptions):
    """Options for the rules of a new meter."""

    formula: FormulaOption = "sum"
    customer_key: CustomerKeyOption = "stripe_customer_id"
    value_key: ValueKeyOption = "value"


@dataclass(frozen=True)
class ChangedRulesOptions(RulesOptions):
    """Options for changed rules of a meter, with those that remove a rule."""

    no_dimension_keys: NoDimensionKeysOption = False
    no_optional_dimension_keys: NoOptionalDimensionKeysOption = False
    no_filter: NoFilterOption = False
    no_multiplier: NoMultiplierOption = False
    no_rounding: NoRoundingOption = False

    def arguments(self) -> dict[str, Any]:
        """Return the rules to change or remove. Raises BadParameter for both at once, or without any."""
        changes = super().arguments()
        removals: dict[str, tuple[bool, object]] = {
            "dimension_keys": (self.no_dimension_keys, ()),
            "optional_dimension_keys": (self.no_optional_dimension_keys, ()),
            "filter": (self.no_filter, None),
            "multiplier": (self.no_multiplier, None),
            "rounding": (self.no_rounding, None),
        }
        for name, (is_removed, value) in removals.items():
            if is_removed and name in changes:
                raise typer.BadParameter(f"--no-{name.replace('_', '-')} excludes an option that sets it.")
            if is_removed:
                changes[name] = value
        if not changes:
            raise typer.BadParameter("No change: use --formula or another option for a rule.")
        return changes
