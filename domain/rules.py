"""The rules of a meter: its formula, its event time window and its payload keys; parsing payloads by them."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from .decimals import DECIMAL_CACHE, parse_decimal
from .errors import MissingCustomer, MissingDimension, MissingValue
from .timestamps import MICROSECONDS_PER_SECOND


class Formula(StrEnum):
    """How meter events are aggregated into a quantity."""

    SUM = "sum"
    COUNT = "count"
    LAST = "last"


class EventTimeWindow(StrEnum):
    """The UTC window in which a newer meter event supersedes earlier ones."""

    HOUR = "hour"
    DAY = "day"

    @property
    def microseconds(self) -> int:
        """The length of the window in microseconds."""
        return (3_600 if self is EventTimeWindow.HOUR else 86_400) * MICROSECONDS_PER_SECOND


ParsedPayload = tuple[str, Decimal | None, tuple[str, ...]]
"""Customer, value and dimension values of a payload."""

PayloadParser = Callable[[Mapping[str, str]], ParsedPayload]


class Rules(BaseModel):
    """The rules of one meter. Payloads are stored as submitted, so that they can be parsed again by changed rules."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: Formula = Formula.SUM
    event_time_window: EventTimeWindow | None = None
    customer_key: str = "stripe_customer_id"
    value_key: str = "value"
    dimension_keys: tuple[str, ...] = ()

    def parse(self, payload: Mapping[str, str]) -> ParsedPayload:
        """Return customer, value and dimension values of `payload`. Use `parser` to parse many payloads.

        Under the formula `count` the value may be missing; if it is present, it must be a number.
        Raises MissingCustomer, MissingValue, InvalidValue or MissingDimension.
        """
        return self.parser()(payload)

    def parser(self) -> PayloadParser:
        """Return a function that parses payloads by these rules.

        It looks up the rules once: attributes of pydantic models are slow, and every meter event is parsed when it is
        recorded and when it is folded.
        """
        customer_key, value_key, dimension_keys = self.customer_key, self.value_key, self.dimension_keys
        needs_value = self.formula is not Formula.COUNT

        def parse(payload: Mapping[str, str]) -> ParsedPayload:
            customer = payload.get(customer_key)
            if not customer or "\0" in customer:
                raise MissingCustomer(f"The payload must name the customer under {customer_key!r}.", field=customer_key)
            value_text = payload.get(value_key)
            if value_text is None and needs_value:
                raise MissingValue(f"The payload must hold the value under {value_key!r}.", field=value_key)
            value = None if value_text is None else DECIMAL_CACHE[value_text] or parse_decimal(value_text, value_key)
            return customer, value, _dimension_values(payload, dimension_keys) if dimension_keys else ()

        return parse


def _dimension_values(payload: Mapping[str, str], keys: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple([payload[key] for key in keys])
    except KeyError as error:
        key = error.args[0]
        raise MissingDimension(f"The payload must hold the dimension {key!r}.", field=key) from None
