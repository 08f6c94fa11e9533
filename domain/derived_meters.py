"""Acceptance of meter events that derived meters count too, each by rules of its own.

An event that one of these meters can't read is rejected: stored, it would be missing from that meter's totals.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime

from .combinations import DimensionCombinations
from .conditions import Payload
from .errors import TallybookError
from .meter import EventAcceptor, Meter
from .meter_event import MeterEventData
from .meter_event_input import MeterEventInput
from .policy import AcceptancePolicy
from .rules import DimensionValues
from .timestamps import from_microseconds, to_microseconds

_Combination = tuple[str, str, int, DimensionValues]
"""Event name, customer, time and dimension values, as the arguments of `DimensionCombinations`."""
_EventReader = Callable[[Payload, datetime], tuple[str, DimensionValues]]
"""Returns the customer and the dimension values of an event, or raises the error that rejects it."""


def acceptor_with_derived_meters(
    source: Meter,
    derived_meters: Sequence[Meter],
    *,
    at: datetime,
    policy: AcceptancePolicy,
    combinations: DimensionCombinations,
) -> EventAcceptor:
    """Return a function that does what `source.acceptor` does, and rejects events that a derived meter can't read.

    It raises the errors of `source.acceptor`. The message of an error of a derived meter begins with its name. Limits
    on digits and on combinations of dimension values apply to each meter.
    """
    # The combinations of all meters are added together or not at all, after everything else is checked.
    without_combinations = policy.model_copy(update={"max_customer_combinations": None, "max_meter_combinations": None})
    accept_at_source = source.acceptor(at=at, policy=without_combinations, combinations=combinations)
    read_by_meter = {meter.event_name: _event_reader(meter, policy) for meter in (source, *derived_meters)}
    is_limited = policy.max_customer_combinations is not None or policy.max_meter_combinations is not None

    def accept(event_input: MeterEventInput) -> MeterEventData:
        data = accept_at_source(event_input)
        new_combinations: list[_Combination] = []
        for event_name, read in read_by_meter.items():
            try:
                customer, dimensions = read(data.payload, data.occurred_at)
                if dimensions and is_limited:
                    combination = event_name, customer, to_microseconds(data.occurred_at), dimensions
                    combinations.check(*combination, policy)
                    new_combinations.append(combination)
            except TallybookError as error:
                if event_name == source.event_name:
                    raise
                raise _error_of(event_name, error) from error
        for combination in new_combinations:
            combinations.add(*combination, policy)
        return data

    return accept


def _event_reader(meter: Meter, policy: AcceptancePolicy) -> _EventReader:
    """Return a function that reads an event by the rules of its time, which are looked up once for a batch.

    It raises any error of `Rules.parse`, and TooManyDigits.
    """
    max_digits = policy.max_digits
    parsers = [(part.rules.parser(), part.rules.value_key) for part in meter.schedule.parts]
    starts = [from_microseconds(part.start) for part in meter.schedule.parts[1:]]

    def read(payload: Payload, occurred_at: datetime) -> tuple[str, DimensionValues]:
        parse, value_key = parsers[bisect_right(starts, occurred_at)]
        customer, value, dimensions, _, _ = parse(payload)
        if value is not None and max_digits is not None and len(payload[value_key]) > max_digits:
            policy.check_value(payload[value_key], value_key)
        return customer, dimensions

    return read


def _error_of(event_name: str, error: TallybookError) -> TallybookError:
    """Return an error that names the derived meter whose rules or limits raised it."""
    message = f"The derived meter {event_name!r} can't count the event: {error.message}"
    return type(error)(message, field=error.field, value=error.value)
