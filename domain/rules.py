"""The rules of a meter: what it counts, and how its usage becomes a quantity; parsing payloads by them."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, model_serializer

from .conditions import Condition, Payload, check_size
from .counting import UsageRecord
from .decimals import DECIMAL_CACHE, EXACT_CONTEXT, ZERO, parse_decimal
from .errors import MissingCustomer, MissingDimension, MissingValue
from .event_time_window import EventTimeWindow
from .formulas import ExactNumber, Formula, ValueType
from .rounding import Rounding, to_decimal
from .totals import Totals

DimensionValues = tuple[str | None, ...]
"""The value of each dimension of a meter; None if an optional one is absent."""

ParsedPayload = tuple[str, Decimal | None, DimensionValues, str | None, bool]
"""Customer, value, dimension values, the unique value if the formula is unique_count, and whether it is filtered."""

PayloadParser = Callable[[Payload], ParsedPayload]

ColumnParser = Callable[[Sequence[Payload]], tuple[Sequence[str], Sequence[Decimal]] | None]
"""Returns the customers and the values of payloads; None if one of them is invalid."""

_LATER_FIELDS = ("optional_dimension_keys", "filter", "multiplier", "rounding")
"""Fields that were added later: without a value, they are left out of what is stored."""


class Rules(BaseModel):
    """The rules of one meter. Payloads are stored as submitted, so that they can be parsed again by changed rules.

    Events that don't match `filter` don't count. The quantity of the formula is multiplied by `multiplier`, and the
    billable quantity is rounded by `rounding`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: Formula = Formula.SUM
    event_time_window: EventTimeWindow | None = None
    customer_key: str = "stripe_customer_id"
    value_key: str = "value"
    dimension_keys: tuple[str, ...] = ()
    optional_dimension_keys: tuple[str, ...] = ()
    filter: Annotated[Condition | None, AfterValidator(check_size)] = None
    multiplier: Annotated[Fraction, PlainSerializer(str)] | None = None
    rounding: Rounding | None = None

    @model_serializer(mode="wrap")
    def _without_absent_fields(self, serialize: Callable[["Rules"], dict[str, Any]]) -> dict[str, Any]:
        fields = serialize(self)
        return {field: value for field, value in fields.items() if value or field not in _LATER_FIELDS}

    @property
    def all_dimension_keys(self) -> tuple[str, ...]:
        """The keys of the dimension values: the required ones, then the optional ones."""
        return self.dimension_keys + self.optional_dimension_keys

    def has_same_quantity(self, other: "Rules") -> bool:
        """Return whether both rules compute the same quantities from the same totals."""
        return (self.formula, self.multiplier, self.rounding) == (other.formula, other.multiplier, other.rounding)

    # --- quantities -------------------------------------------------------------------------------

    def quantity(self, totals: Totals) -> Decimal:
        """Return the quantity of totals; 0 if there are no counted events.

        It is exact, but for a number without a finite decimal form: that is rounded half to even at 15 digits after the
        point.
        """
        return self.quantity_function()(totals)

    def quantity_function(self) -> Callable[[Totals], Decimal]:
        """Return a function that returns the quantity of totals. It looks up the rules once, as `parser` does."""
        formula_rule = self.formula.rule
        if self.multiplier is None and formula_rule.is_finite:
            return cast(Callable[[Totals], Decimal], formula_rule.quantity)
        return lambda totals: to_decimal(self._scaled(formula_rule.quantity(totals)))

    def billable(self, quantity: Decimal) -> Decimal:
        """Return the billed quantity: never less than 0, and rounded by the rules. Source: Stripe bills 0."""
        positive = max(quantity, ZERO)
        return positive if self.rounding is None else self.rounding.round(positive)

    def contributions(self, totals: Totals) -> Callable[[UsageRecord], Decimal]:
        """Return a function that returns what each counted event contributes to the quantity of its totals.

        It must be called once for each counted event, ordered by (occurred_at, position). The contributions add up to
        the quantity: where that is rounded, each is the difference of two rounded sums.
        """
        share = self.formula.rule.shares(totals)
        if self.multiplier is None and self.formula.rule.is_finite:
            return cast(Callable[[UsageRecord], Decimal], share)
        exact, rounded = Fraction(0), ZERO

        def contribution(record: UsageRecord) -> Decimal:
            nonlocal exact, rounded
            exact += Fraction(self._scaled(share(record)))
            before, rounded = rounded, to_decimal(exact)
            return EXACT_CONTEXT.subtract(rounded, before)

        return contribution

    def _scaled(self, number: ExactNumber) -> ExactNumber:
        return number if self.multiplier is None else Fraction(number) * self.multiplier

    # --- parsing ----------------------------------------------------------------------------------

    def parse(self, payload: Payload) -> ParsedPayload:
        """Return customer, value and dimension values of `payload`. Use `parser` to parse many payloads.

        Under the formula `count` the value may be missing; if it is present, it must be a number. Of a payload that
        doesn't match the filter, only the customer must be present.
        Raises MissingCustomer, MissingValue, InvalidValue or MissingDimension.
        """
        return self.parser()(payload)

    def parser(self) -> PayloadParser:
        """Return a function that parses payloads by these rules.

        It looks up the rules once: attributes of pydantic models are slow, and every meter event is parsed when it is
        recorded and when it is folded.
        """
        if self._reads_only_number:
            return _value_parser(self.customer_key, self.value_key)
        value_type = self.formula.rule.value_type
        customer_key, value_key = self.customer_key, self.value_key
        needs_value, is_text = value_type is not ValueType.OPTIONAL_NUMBER, value_type is ValueType.TEXT
        required_keys, optional_keys = self.dimension_keys, self.optional_dimension_keys
        has_dimensions = bool(required_keys or optional_keys)
        matches = None if self.filter is None else self.filter.predicate()

        def parse(payload: Payload) -> ParsedPayload:
            customer = payload.get(customer_key)
            if not customer or "\0" in customer:
                raise _missing_customer(customer_key)
            if matches is not None and not matches(payload):
                return customer, None, tuple(map(payload.get, required_keys + optional_keys)), None, True
            value_text = payload.get(value_key)
            if value_text is None and needs_value:
                raise _missing_value(value_key)
            dimensions = _dimension_values(payload, required_keys, optional_keys) if has_dimensions else ()
            if is_text:
                return customer, None, dimensions, value_text, False
            value = None if value_text is None else DECIMAL_CACHE[value_text] or parse_decimal(value_text, value_key)
            return customer, value, dimensions, None, False

        return parse

    def column_parser(self) -> ColumnParser | None:
        """Return a function that parses many payloads in half the time; None if there are dimensions or a filter.

        It returns the customers and the values, and None if one of the payloads is invalid: `parser` finds which.
        """
        return _column_parser(self.customer_key, self.value_key) if self._reads_only_number else None

    @property
    def _reads_only_number(self) -> bool:
        """Whether a payload is a customer and a number by these rules: no dimensions, and no filter."""
        is_number = self.formula.rule.value_type is ValueType.NUMBER
        return is_number and not self.all_dimension_keys and self.filter is None


def _column_parser(customer_key: str, value_key: str) -> ColumnParser:
    """Return a parser of many payloads that accepts what `_value_parser` does."""

    def parse(payloads: Sequence[Payload]) -> tuple[Sequence[str], Sequence[Decimal]] | None:
        try:
            customers = [payload[customer_key] for payload in payloads]
            values = [DECIMAL_CACHE[payload[value_key]] for payload in payloads]
        except KeyError:
            return None
        if not all(customers) or "\0" in "".join(customers) or {*map(type, values)} != {Decimal}:
            return None
        return customers, cast(Sequence[Decimal], values)

    return parse


def _value_parser(customer_key: str, value_key: str) -> PayloadParser:
    """Return a parser for rules that only read customer and value: most meters have such rules."""

    def parse(payload: Payload) -> ParsedPayload:
        try:  # faster than `get`
            customer, value_text = payload[customer_key], payload[value_key]
        except KeyError:
            raise _missing_key(payload, customer_key, value_key) from None
        if not customer or "\0" in customer:
            raise _missing_customer(customer_key)
        return customer, DECIMAL_CACHE[value_text] or parse_decimal(value_text, value_key), (), None, False

    return parse


def _missing_key(payload: Payload, customer_key: str, value_key: str) -> MissingCustomer | MissingValue:
    customer = payload.get(customer_key)
    if not customer or "\0" in customer:
        return _missing_customer(customer_key)
    return _missing_value(value_key)


def _missing_customer(key: str) -> MissingCustomer:
    return MissingCustomer(f"The payload must name the customer under {key!r}.", field=key)


def _missing_value(key: str) -> MissingValue:
    return MissingValue(f"The payload must hold the value under {key!r}.", field=key)


def _dimension_values(
    payload: Mapping[str, str], required_keys: Sequence[str], optional_keys: Sequence[str]
) -> DimensionValues:
    try:
        required = [payload[key] for key in required_keys]
    except KeyError as error:
        key = error.args[0]
        raise MissingDimension(f"The payload must hold the dimension {key!r}.", field=key) from None
    return (*required, *map(payload.get, optional_keys))
