"""An open ledger to which events are appended, and then folded into its read models."""

from tallybook.application import Metering

from .. import workload
from ..engines.engine import CountAndSum, GroupBy
from ..measure import check_equal, seconds, time_query
from .rebuild import count_and_sum

APPENDED_EVENTS = 3_000


class AppendedLedger:
    """An open ledger. `folded` and `grouped` are the seconds that Tallybook and the engine took after each append."""

    def __init__(self, metering: Metering, group: GroupBy, events: int) -> None:
        self.metering = metering
        self.group = group
        self.events = events
        metering.catch_up()
        self.folded: list[float] = []
        self.grouped: list[float] = []

    def query(self) -> float:
        """Return the seconds of a query for the low-volume customer, who has 1,000 events at every size."""
        return seconds(
            lambda: self.metering.total(workload.METER, workload.LOW_VOLUME_CUSTOMER, workload.START, workload.END)
        )

    def append(self) -> float:
        """Record APPENDED_EVENTS events after the month, fold and group them. Return the seconds of recording."""
        numbers = range(self.events, self.events + APPENDED_EVENTS)
        appended = workload.events_after_the_month(numbers)
        batches = [
            appended[first : first + workload.BATCH_SIZE] for first in range(0, APPENDED_EVENTS, workload.BATCH_SIZE)
        ]
        elapsed = seconds(lambda: [self.metering.record_many(batch) for batch in batches])
        self.folded.append(seconds(self.metering.catch_up))
        grouped: list[list[CountAndSum]] = []
        before = workload.position(numbers[0]) - 1
        self.grouped.append(time_query(lambda: self.group(before), grouped))
        first, last = appended[0]["timestamp"], appended[-1]["timestamp"]
        totals = count_and_sum(self.metering.totals(workload.METER, first, last + workload.INSTANT))
        check_equal("counts and sums of the appended events", totals, grouped[0])
        self.events += APPENDED_EVENTS
        return elapsed
