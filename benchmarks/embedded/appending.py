"""An open ledger that gets more events, which are folded as they come."""

from tallybook.application import Metering

from .. import usage
from ..engines.engine import Counted, Grouping
from ..measure import agree, answered, seconds
from .rebuilding import counted

MORE = 3_000


class Appended:
    """A ledger that is open, and how many seconds it took each time to fold, and the engine to group, what was new."""

    def __init__(self, metering: Metering, group: Grouping, events: int) -> None:
        self.metering = metering
        self.group = group
        self.events = events
        metering.catch_up()
        self.folded: list[float] = []
        self.grouped: list[float] = []

    def ask(self) -> float:
        """The seconds for the month of the customer who has as many events at every size."""
        return seconds(lambda: self.metering.total(usage.METER, usage.SELDOM, usage.START, usage.END))

    def append(self) -> float:
        """The seconds to record some thousand events more, all after the month; then they are folded, and grouped."""
        numbers = range(self.events, self.events + MORE)
        more = usage.after_the_month(numbers)
        batches = [more[first : first + usage.BATCH] for first in range(0, MORE, usage.BATCH)]
        took = seconds(lambda: [self.metering.record_many(batch) for batch in batches])
        self.folded.append(seconds(self.metering.catch_up))
        grouped: list[list[Counted]] = []
        before = usage.position(numbers[0]) - 1
        self.grouped.append(answered(lambda: self.group(before), grouped))
        first, last = more[0]["timestamp"], more[-1]["timestamp"]
        totals = counted(self.metering.totals(usage.METER, first, last + usage.INSTANT))
        agree("counts and sums of what was recorded since", totals, grouped[0])
        self.events += MORE
        return took
