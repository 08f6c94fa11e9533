"""Gains: what one page of the ledger adds to each meter, made up before anything that is kept is looked at."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..domain.counting import counted
from .buckets import bucket_sizes
from .fold import MeterPage
from .packing import pack
from .rows import Mark, ProjectedMeter
from .runs import BucketKey, NewRun, Run, cut
from .totals import Totals


class MeterGain(NamedTuple):
    """What one page adds to a meter.

    `runs` hold its new usages; `totals` say what those in each bucket come to by themselves; `marks` are cancels, of
    these or of earlier ones; and `has_news` whether the meter itself is new or has other rules in force.
    """

    meter: ProjectedMeter
    has_news: bool
    runs: Sequence[NewRun]
    totals: Mapping[BucketKey, Totals]
    marks: Sequence[Mark]

    @property
    def bucket_seconds(self) -> int:
        """The size of the buckets that usages are added under."""
        return bucket_sizes(self.meter.rules.event_time_window)[-1]


def gained(page: MeterPage) -> MeterGain:
    """What `page` adds to its meter."""
    window = page.meter.rules.event_time_window
    runs = [
        NewRun(Run.of(key, part), len(part), pack(part)) for key, usages in page.usages.items() for part in cut(usages)
    ]
    if window is None:
        totals = _added_up(runs)
    else:
        totals = {key: Totals.of(counted(usages, window)) for key, usages in page.usages.items()}
    return MeterGain(page.meter, page.has_news, runs, totals, page.marks)


def _added_up(runs: Sequence[NewRun]) -> dict[BucketKey, Totals]:
    """What buckets come to, where every event stands for itself."""
    totals: dict[BucketKey, Totals] = {}
    for run, _, _ in runs:
        before = totals.get(run.key)
        totals[run.key] = run.totals if before is None else before.merge(run.totals)
    return totals
