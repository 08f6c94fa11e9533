"""What a store of read models has to do for the projections: keep usage rows and buckets, and know no rules."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import takewhile
from typing import NamedTuple, Protocol

import msgspec

from ..domain.counting import Usage
from ..domain.meter_event import MeterEvent
from ..domain.rules import Rules
from .runs import BucketKey, NewRun, Run
from .totals import Totals

LedgerEvent = tuple[int, str, bytes]
"""Position, topic and state of a stored event, as they lie in the ledger."""


USAGE_RECORDED = MeterEvent.UsageRecorded.__name__
"""The topic of uses."""
EVENT_CANCELLED = MeterEvent.EventCancelled.__name__
"""The topic of cancels."""
OTHER = b"\x02"
"""Stands for any other event among the states of uses: no JSON has it."""
PAGE_PART = 1_000
"""Parts of a page end at positions that are multiples of this."""


class StoredPage(NamedTuple):
    """Stored events: the states of uses in parts, a line each, the other events, and the position of the last one.

    A part is the states of its uses with commas between them, and OTHER in the place of each other event: what a JSON
    array would hold, if the states are JSON; nobody has looked yet. There are none, and the last position is the one
    before, where the page would be too long for the store.
    """

    uses: bytes
    others: Sequence[LedgerEvent]
    last: int


class AsOf(NamedTuple):
    """What was known: recorded up to and including a position, or a moment (microseconds since 1970 UTC), or either."""

    position: int | None = None
    recorded_at: int | None = None

    def knew(self, usage: Usage) -> Usage | None:
        """The usage as it was known: None where it was not recorded yet, and not cancelled where its cancel wasn't."""
        if not self.includes(usage.recorded_at, usage.position):
            return None
        if usage.cancelled_at is None or usage.cancelled_position is None:
            return usage
        if self.includes(usage.cancelled_at, usage.cancelled_position):
            return usage
        return msgspec.structs.replace(usage, cancelled_at=None, cancelled_position=None)

    def includes(self, recorded_at: int, position: int) -> bool:
        """Whether what was recorded then, at that position, was known."""
        if self.position is not None and position <= self.position:
            return True
        return self.recorded_at is not None and recorded_at <= self.recorded_at


class RulesInForce(NamedTuple):
    """Rules of a meter from a position of the ledger on, until the next revision."""

    revision: int
    rules: Rules
    position: int
    recorded_at: int


class ProjectedMeter(NamedTuple):
    """A meter as the read models know it.

    `rules` are those that its usage was folded under; `history` holds those that the ledger has put in force so far.
    """

    number: int
    event_name: str
    rules: Rules
    history: tuple[RulesInForce, ...]

    def in_force(self, as_of: AsOf | None = None) -> RulesInForce:
        """The rules in force then; the first ones before there were any."""
        if as_of is None:
            return self.history[-1]
        known = list(takewhile(lambda one: as_of.includes(one.recorded_at, one.position), self.history))
        return known[-1] if known else self.history[0]

    @property
    def is_current(self) -> bool:
        """Whether the usage was folded under the rules that the ledger has put in force last."""
        return self.rules == self.history[-1].rules


class Mark(NamedTuple):
    """A cancel to be marked on the usage that it is about, which lies in the bucket `key`."""

    key: BucketKey
    position: int
    cancelled_at: int
    cancelled_position: int


class Bucket(NamedTuple):
    """The totals of one bucket of one customer and combination of dimension values."""

    customer: int
    start: int
    dimensions: str
    totals: Totals


class LedgerRows(Protocol):
    """The ledger, as it is read event by event."""

    def head(self) -> int:
        """The position of the newest event; 0 in an empty ledger."""
        ...

    def page(self, after: int, limit: int) -> Sequence[LedgerEvent]:
        """Up to `limit` events after the position `after`, in order."""
        ...


class LedgerPages(LedgerRows, Protocol):
    """The ledger, as a projector reads it."""

    @property
    def is_read_beside(self) -> bool:
        """Whether a thread may read it while others write, each through whatever opened it."""
        ...

    def page_at_once(self, after: int, limit: int) -> StoredPage:
        """Up to `limit` events after the position `after`, put together by the store.

        That leaves the interpreter to others meanwhile.
        """
        ...


class Record(NamedTuple):
    """One row of the read models in a form that doesn't depend on the store: what tells it from others, and its cells.

    A row that can't be read has None for its cells.
    """

    key: tuple[int | str, ...]
    cells: tuple[object, ...] | None


class Rows(Protocol):
    """Usage rows and buckets of one generation, read in one consistent state."""

    @property
    def generation(self) -> int:
        """The number of the generation."""
        ...

    def beside(self, generation: int) -> "Rows":
        """The rows of another generation, in the same consistent state. Raises NoGeneration."""
        ...

    def pinned(self) -> Mapping[str, Rules]:
        """The rules that meters are folded under, by event name; those they are configured with where not named."""
        ...

    def position(self) -> int:
        """The position up to which the ledger is folded in."""
        ...

    def ledger_mark(self) -> str | None:
        """The mark of the event at that position."""
        ...

    def meters(self) -> Mapping[str, ProjectedMeter]:
        """The meters, by event name."""
        ...

    def customer_number(self, customer: str) -> int | None:
        """The number of a customer in these rows, if it has any."""
        ...

    def last_customer_number(self) -> int:
        """The highest number of a customer; 0 where there is none."""
        ...

    def customer_names(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """The customers behind numbers."""
        ...

    def usages(
        self, meter: int, customer: int | None, bucket_seconds: int, start: int, end: int, as_of: AsOf | None = None
    ) -> Iterator[Usage]:
        """Usages in [start, end), by (occurred_at, position), as they were known; of all customers where None.

        `bucket_seconds` is the size of the buckets they were added under.
        """
        ...

    def runs(self, meter: int, customer: int | None, bucket_seconds: int, start: int, end: int) -> Iterator[Run]:
        """The runs with usages in [start, end), by bucket; of all customers where None."""
        ...

    def usages_of(self, meter: int, runs: Sequence[Run]) -> Iterator[list[Usage]]:
        """The usages of each of `runs`, in the ledger's order."""
        ...

    def buckets(self, meter: int, bucket_seconds: int, customer: int | None, start: int, end: int) -> Iterator[Bucket]:
        """The buckets that begin in [start, end)."""
        ...

    def extent(self, meter: int, customer: int | None, bucket_seconds: int) -> tuple[int, int] | None:
        """The starts of the first and last bucket of `bucket_seconds` with usage, of all customers where None."""
        ...

    def tables(self) -> Sequence[str]:
        """The names of all tables of rows, for `records`."""
        ...

    def records(self, table: str) -> Iterator[Record]:
        """All rows of a table, in the order of their keys; usages one by one, however they are kept."""
        ...


class WritableRows(Rows, Protocol):
    """Rows inside the transaction of one page."""

    def put_meter(self, meter: ProjectedMeter) -> None:
        """Keep a meter, in place of what was kept of it."""
        ...

    def add_customers(self, numbers: Mapping[str, int]) -> None:
        """Keep the numbers of new customers."""
        ...

    def add_runs(self, meter: int, runs: Sequence[NewRun], begun: Collection[BucketKey]) -> None:
        """Keep new runs, all later in the ledger than those that are kept.

        Of the buckets in `begun` some are kept already; short ones may be kept as one.
        """
        ...

    def mark_cancelled(self, meter: int, marks: Iterable[Mark]) -> Sequence[Mark]:
        """Mark cancels on their usages; give those for which there is no usage to mark."""
        ...

    def put_buckets(self, meter: int, bucket_seconds: int, buckets: Iterable[Bucket]) -> None:
        """Keep buckets in place of those of the same customer, dimension values and start, also empty ones."""
        ...

    def kept_buckets(self, meter: int, bucket_seconds: int, keys: Sequence[BucketKey]) -> dict[BucketKey, Totals]:
        """Those of the buckets of `keys` that are kept."""
        ...

    def advance(self, position: int, mark: str) -> None:
        """Remember that the ledger is folded in up to `position`, in the same transaction as its rows.

        `mark` tells the event there from that of another ledger.
        """
        ...


Fold = Callable[[Rows], "Callable[[WritableRows], None] | None"]
"""Folds the next page after what rows hold, and gives what writes it onto them; None where there is none."""


class Views(Protocol):
    """Where read models live."""

    def reading(self) -> AbstractContextManager[Rows]:
        """Read in one consistent state."""
        ...

    def writing(self) -> AbstractContextManager[WritableRows]:
        """Write alone; what is written takes effect at the end, whole or not at all."""
        ...

    def take_page(self, fold: Fold) -> int:
        """Write the next page that `fold` gives, onto the very rows that it was folded after; give the position.

        One at a time: who comes meanwhile finds it done.
        """
        ...


class DisposableViews(Views, Protocol):
    """All generations of read models of one ledger, which can be done away with."""

    def marks(self) -> Sequence[tuple[int, str | None]]:
        """Of each generation, the position up to which the ledger is folded in, and the mark of the event there."""
        ...

    def begin_anew(self) -> None:
        """Do away with all generations, and begin one without rows."""
        ...
