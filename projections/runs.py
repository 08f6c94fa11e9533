"""Runs: usages of one bucket that are kept together in a row, beside what they add up to.

A range of time that begins or ends within a bucket is read from what whole runs add up to; only those that reach over
an edge are opened.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from ..domain.counting import Usage, counted
from .buckets import HOUR_SECONDS, bucket_end
from .totals import Totals

BucketKey = tuple[int, int, str]
"""Customer, start and dimension values of a bucket."""

SHORT = 64
"""New usages that are fewer join the run before them in their bucket, if that is short too."""
LONG = 256
"""More usages are cut where one hour ends and the next begins, if each part is then at least SHORT."""
LONGEST = 1_000
"""More usages are cut wherever they are."""
_HOUR = bucket_end(0, HOUR_SECONDS)


class Run(NamedTuple):
    """Up to 1,000 usages of one bucket, one after another in the ledger, without these themselves.

    `totals` is what those that aren't cancelled add up to, each standing for itself, from `earliest` to `latest`.
    """

    key: BucketKey
    first_position: int
    earliest: int
    latest: int
    totals: Totals

    @classmethod
    def of(cls, key: BucketKey, usages: Sequence[Usage]) -> "Run":
        """The run of new `usages`: there are some, of which none is cancelled."""
        times = [usage.occurred_at for usage in usages]
        return cls(key, usages[0].position, min(times), max(times), Totals.of(usages))

    @classmethod
    def with_cancels(cls, key: BucketKey, usages: Sequence[Usage]) -> "Run":
        """The run of `usages` of which some may be cancelled."""
        return cls.of(key, usages)._replace(totals=Totals.of(counted(usages, None)))

    def followed_by(self, later: "Run") -> "Run":
        """The run that both make, of which the other is later in the ledger."""
        earliest, latest = min(self.earliest, later.earliest), max(self.latest, later.latest)
        return Run(self.key, self.first_position, earliest, latest, self.totals.merge(later.totals))


class NewRun(NamedTuple):
    """A run that is to be kept: how many usages it has, and these as one value of bytes."""

    run: Run
    number: int
    packed: bytes


def cut(usages: Sequence[Usage]) -> Iterator[Sequence[Usage]]:
    """Usages of one bucket, in the ledger's order, in parts that are to be runs."""
    if len(usages) <= LONG:
        yield usages
        return
    begins = 0
    for ends in _hours(usages):
        while ends - begins > LONGEST:
            yield usages[begins : begins + LONGEST]
            begins += LONGEST
        if ends - begins >= SHORT or ends == len(usages):
            yield usages[begins:ends]
            begins = ends


def _hours(usages: Sequence[Usage]) -> Iterator[int]:
    """Where, in the ledger's order, the hour of one usage is another than that of the next; at last the end."""
    ends = 0
    for _, hour in groupby(usages, lambda usage: usage.occurred_at // _HOUR):
        ends += len(list(hour))
        yield ends
