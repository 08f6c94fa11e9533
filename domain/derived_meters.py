"""Acceptance of meter events that derived meters count too, each by rules of its own.

An event that one of these meters can't read is rejected: stored, it would be missing from that meter's totals.
"""

from collections.abc import Sequence
from datetime import datetime

from .acceptance_policy import AcceptancePolicy
from .combinations import DimensionCombinations, PendingCombinations
from .errors import TallybookError
from .meter import EventAcceptor, Meter
from .meter_event import MeterEventData
from .meter_event_input import MeterEventInput
from .timestamps import to_microseconds


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
    pending = PendingCombinations(combinations)
    accept_at_source = source.acceptor(at=at, policy=policy, combinations=pending)
    readers = {meter.event_name: meter.event_reader(policy) for meter in derived_meters}

    def accept(event_input: MeterEventInput) -> MeterEventData:
        pending.clear()
        data = accept_at_source(event_input)
        for event_name, read in readers.items():
            try:
                customer, dimensions = read(data.payload, data.occurred_at)
                if dimensions:
                    pending.add(event_name, customer, to_microseconds(data.occurred_at), dimensions, policy)
            except TallybookError as error:
                raise _error_of(event_name, error) from error
        pending.commit()
        return data

    return accept


def _error_of(event_name: str, error: TallybookError) -> TallybookError:
    """Return an error that names the derived meter whose rules or limits raised it."""
    message = f"The derived meter {event_name!r} can't count the event: {error.message}"
    return type(error)(message, field=error.field, value=error.value)
