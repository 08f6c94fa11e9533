"""The meter of a case: its rules in the format of the cases, as arguments of `metering.meters.configure`."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from tallybook.application import Metering


class Part(BaseModel):
    """A part of a case; unknown fields are validation errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Rounding(Part):
    """How a case rounds: by a function of Ruby, to a number of digits after the point, or before it if negative."""

    function: Literal["round", "ceil", "floor"]
    precision: int

    @property
    def argument(self) -> dict[str, object]:
        """The argument `rounding` of a meter."""
        mode = {"round": "half_up", "ceil": "up", "floor": "down"}[self.function]
        return {"mode": mode, "step": Decimal(1).scaleb(-self.precision)}


class Comparison(Part):
    """A condition on the value of one key."""

    key: str
    op: Literal["eq", "in", "gt", "gte", "lt", "lte"]
    value: str | int | Decimal | None = None
    values: list[str] | None = None

    @property
    def argument(self) -> dict[str, object]:
        """The condition as part of the argument `filter` of a meter."""
        if self.op == "in":
            return {"key": self.key, "one_of": self.values}
        names = {"eq": "equals", "gt": "greater_than", "gte": "at_least", "lt": "less_than", "lte": "at_most"}
        return {"key": self.key, names[self.op]: None if self.value is None else plain_text(self.value)}


class Negation(Part):
    """A condition that another one doesn't match."""

    condition: "Filter" = Field(alias="not")

    @property
    def argument(self) -> dict[str, object]:
        """The condition as part of the argument `filter` of a meter."""
        return {"not": self.condition.argument}


class Conjunction(Part):
    """A condition that several others match."""

    conditions: "list[Filter]" = Field(alias="all")

    @property
    def argument(self) -> dict[str, object]:
        """The condition as part of the argument `filter` of a meter."""
        return {"all": [condition.argument for condition in self.conditions]}


Filter = Comparison | Negation | Conjunction


class VendorMeter(Part):
    """The meter of a case."""

    aggregation: Literal["sum", "count", "last", "max", "min", "avg", "unique_count"]
    event_name: str
    value_key: str | None
    event_time_window: str | None = None
    filter: Filter | None = None
    multiplier: str | None = None
    rounding: Rounding | None = None


def configure(
    metering: Metering, meter: VendorMeter, event_names: set[str], dimension_keys: Sequence[str] = ()
) -> None:
    """Configure a meter for each of `event_names` with the rules of a case. An event may lack any of the dimensions."""
    for event_name in event_names:
        metering.meters.configure(
            event_name,
            formula=meter.aggregation,
            event_time_window=meter.event_time_window,
            customer_key="customer of the case",
            value_key=meter.value_key or "no value",
            optional_dimension_keys=dimension_keys,
            filter=None if meter.filter is None else meter.filter.argument,
            multiplier=meter.multiplier,
            rounding=None if meter.rounding is None else meter.rounding.argument,
        )


def plain_text(value: str | int | Decimal) -> str:
    """Return a value as text; all digits of a JSON number are preserved."""
    return format(value, "f") if isinstance(value, Decimal) else str(value)
