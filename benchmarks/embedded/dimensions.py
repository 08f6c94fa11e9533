"""Recording, rebuilding and storage of the same events on meters with and without dimensions."""

from collections.abc import Iterator, Sequence

from .. import dimension_workload, workload
from ..bench import SMALL_EVENT_COUNT, Bench
from ..engines.engine import CountAndSum
from ..measure import Measurement, check_equal, compare, interleave, seconds
from .rebuild import count_and_sum

SHORT_EVENT_COUNT = 5_000
CUSTOMERS, MODELS = 200, 10
NONE = "no dimensions"
DIMENSIONS = {
    NONE: (),
    "1 key of 10 values": ("model",),
    "3 keys of 1,000 combinations": dimension_workload.DIMENSION_KEYS,
}


def dimensions(bench: Bench) -> Iterator[Measurement]:
    """Measure meters with dimensions as ratios to one without, which reads the same payloads."""
    events = bench.at_most(SHORT_EVENT_COUNT, SMALL_EVENT_COUNT)
    batches = list(dimension_workload.batches(events, CUSTOMERS, MODELS))
    meters = {name: _MeasuredMeter(bench, keys, batches) for name, keys in DIMENSIONS.items()}
    tasks = {name: meter.record for name, meter in meters.items()}
    interleave(tasks, 1)  # warms up all of them
    recorded = interleave(tasks, bench.turns)
    for name, meter in meters.items():
        check_equal(f"counts and sums by customer, {name}", meter.totals, meters[NONE].totals)
    check_equal("events counted", sum(count for _, count, _ in meters[NONE].totals), events)
    rebuilt = {name: meter.rebuilt[1:] for name, meter in meters.items()}
    for what, timings in (("record", recorded), ("rebuild", rebuilt)):
        for name in DIMENSIONS:
            if name != NONE:
                yield compare(f"{what}, {name}", timings, events, ours=name, theirs=NONE)
    for name, meter in meters.items():
        yield _storage(name, meter.storage_bytes, events)


class _MeasuredMeter:
    """A meter with some dimensions: the seconds of each rebuild, the totals of its customers and its storage."""

    def __init__(self, bench: Bench, dimension_keys: Sequence[str], batches: Sequence[workload.MeterEvents]) -> None:
        self._bench = bench
        self._dimension_keys = dimension_keys
        self._batches = batches
        self.rebuilt: list[float] = []
        self.totals: list[CountAndSum] = []
        self.storage_bytes = (0, 0)

    def record(self) -> float:
        """Record all batches in an empty ledger and build its read models. Return the seconds of recording."""
        with self._bench.empty_ledger(self._dimension_keys) as url:
            with workload.open_ledger(url, self._dimension_keys) as metering:
                elapsed = seconds(lambda: [metering.record_many(batch) for batch in self._batches])
            with workload.open_ledger(url, self._dimension_keys) as metering:
                self.rebuilt.append(seconds(metering.catch_up))
                self.totals = count_and_sum(metering.totals(workload.METER, workload.START, workload.END))
            self.storage_bytes = self._bench.engine.storage_bytes(url)
        return elapsed


def _storage(name: str, storage_bytes: tuple[int, int], events: int) -> Measurement:
    ledger, read_models = (size / events for size in storage_bytes)
    figures = {"ledger B/event": ledger, "read models B/event": read_models}
    return Measurement(f"storage, {name}", ledger + read_models, "B/event", None, 1, figures)
