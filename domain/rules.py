"""The rules a meter counts by: which formula, over which reports, read from which payload keys."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from .errors import PayloadWithoutCustomer, PayloadWithoutDimension, PayloadWithoutValue
from .instants import MICROSECONDS_PER_SECOND
from .quantities import NUMBERS, quantity


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

Reader = Callable[[Mapping[str, str]], Reading]


class Rules(BaseModel):
    """One meter's rules. A payload is kept as reported and read by the rules, so that changed rules can be replayed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: Formula = Formula.SUM
    event_time_window: EventTimeWindow | None = None
    customer_key: str = "stripe_customer_id"
    value_key: str = "value"
    dimension_keys: tuple[str, ...] = ()

    def read(self, payload: Mapping[str, str]) -> Reading:
        """Read customer, value and dimension values out of `payload`; who reads many asks for a `reader` once.

        The value may be missing under the formula count; where there is one it must be a number even so.
        Raises PayloadWithoutCustomer, PayloadWithoutValue, InvalidValue or PayloadWithoutDimension.
        """
        return self.reader()(payload)

    def reader(self) -> Reader:
        """What reads payloads by these rules.

        It has looked up the rules beforehand, which would take longer than to read by them: attributes of pydantic's
        models are slow, and every use passes here when it is recorded and when it is folded.
        """
        customer_key, value_key, dimension_keys = self.customer_key, self.value_key, self.dimension_keys
        needs_value = self.formula is not Formula.COUNT

        def read(payload: Mapping[str, str]) -> Reading:
            customer = payload.get(customer_key)
            if not customer or "\0" in customer:
                raise PayloadWithoutCustomer(
                    f"The payload must name the customer under {customer_key!r}.", field=customer_key
                )
            text = payload.get(value_key)
            if text is None and needs_value:
                raise PayloadWithoutValue(f"The payload must hold the value under {value_key!r}.", field=value_key)
            value = None if text is None else NUMBERS[text] or quantity(text, value_key)
            return customer, value, _dimensions(payload, dimension_keys) if dimension_keys else ()

        return read


def _dimensions(payload: Mapping[str, str], keys: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple([payload[key] for key in keys])
    except KeyError as missing:
        key = missing.args[0]
        raise PayloadWithoutDimension(f"The payload must hold the dimension {key!r}.", field=key) from None
