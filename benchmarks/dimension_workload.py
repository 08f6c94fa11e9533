"""The workload of the benchmarks of dimensions: meter events with a model, a region and a tier, equal in every run.

The customers and the combinations of dimension values are independent of each other, and spread evenly over the month.
"""

from collections.abc import Iterator

from . import workload
from .workload import MeterEvent, MeterEvents

DIMENSION_KEYS = ("model", "region", "tier")
REGIONS, TIERS = 10, 10

_SCATTER = 0x85EBCA6B
"""Another odd multiplier than that of the customers, so that each of them uses all combinations."""


def batches(events: int, customers: int, models: int) -> Iterator[MeterEvents]:
    """Yield all meter events, of this number of customers and models, in batches."""
    for first in range(0, events, workload.BATCH_SIZE):
        numbers = range(first, min(first + workload.BATCH_SIZE, events))
        yield [_meter_event(number, events, customers, models) for number in numbers]


def _meter_event(number: int, events: int, customers: int, models: int) -> MeterEvent:
    combination = workload.scatter(number, models * REGIONS * TIERS, _SCATTER)
    return {
        "event_name": workload.METER,
        "identifier": workload.identifier(number),
        "timestamp": workload.START + number * ((workload.END - workload.START) / events),
        "payload": {
            "customer": f"customer-{workload.scatter(number, customers):04d}",
            "tokens": str(workload.tokens(number)),
            "model": f"model-{combination % models:02d}",
            "region": f"region-{combination // models % REGIONS}",
            "tier": f"tier-{combination // models // REGIONS}",
        },
    }
