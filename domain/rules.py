"""The rules a meter counts by: which formula, over which reports, read from which payload keys."""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from .errors import PayloadWithoutCustomer, PayloadWithoutDimension, PayloadWithoutValue
from .instants import MICROSECONDS_PER_SECOND
from .quantities import quantity


class Formula(StrEnum):
    """How usages become a quantity."""

    SUM = "sum"
    COUNT = "count"
    LAST = "last"


class EventTimeWindow(StrEnum):
    """The UTC window in which the newest report replaces earlier ones."""

    HOUR = "hour"
    DAY = "day"

    @property
    def microseconds(self) -> int:
        """How long the window is."""
        return (3_600 if self is EventTimeWindow.HOUR else 86_400) * MICROSECONDS_PER_SECOND


Reading = tuple[str, Decimal | None, tuple[str, ...]]
"""What the rules read out of one payload: customer, value and dimension values."""


class Rules(BaseModel):
    """One meter's rules. A payload is kept as reported and read by the rules, so that changed rules can be replayed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: Formula = Formula.SUM
    event_time_window: EventTimeWindow | None = None
    customer_key: str = "stripe_customer_id"
    value_key: str = "value"
    dimension_keys: tuple[str, ...] = ()

    def read(self, payload: Mapping[str, str]) -> Reading:
        """Read customer, value and dimension values out of `payload`.

        The value may be missing under the formula count; where there is one it must be a number even so.
        Raises PayloadWithoutCustomer, PayloadWithoutValue, InvalidValue or PayloadWithoutDimension.
        """
        customer = payload.get(self.customer_key)
        if not customer or "\0" in customer:
            raise PayloadWithoutCustomer(
                f"The payload must name the customer under {self.customer_key!r}.", field=self.customer_key
            )
        text = payload.get(self.value_key)
        if text is None and self.formula is not Formula.COUNT:
            raise PayloadWithoutValue(
                f"The payload must hold the value under {self.value_key!r}.", field=self.value_key
            )
        value = None if text is None else quantity(text, self.value_key)
        return customer, value, self._dimensions(payload) if self.dimension_keys else ()

    def _dimensions(self, payload: Mapping[str, str]) -> tuple[str, ...]:
        for key in self.dimension_keys:
            if key not in payload:
                raise PayloadWithoutDimension(f"The payload must hold the dimension {key!r}.", field=key)
        return tuple(payload[key] for key in self.dimension_keys)
