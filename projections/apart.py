"""Folding a page apart from all that is kept: by the meters that are known, with the page's own numbers for customers.

It is the same fold; what it gives is bytes, which another process can be told, and takes the place of folding the page
there once customers have the numbers that they are kept by.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ..domain.errors import TallybookError
from .fold import fold
from .gains import MeterGain, gained
from .pages_ahead import NotPutTogether, PageRead, no_rows
from .rows import Mark, ProjectedMeter, StoredPage
from .runs import BucketKey, NewRun
from .stored_events import NEWS
from .totals import Totals


class FoldedPage(NamedTuple):
    """What a page adds to each meter, and the position that it reaches."""

    position: int
    gains: Sequence[MeterGain]


class _MeterApart(NamedTuple):
    """A gain of the meter `event_name`, with the page's own numbers for customers."""

    event_name: str
    runs: list[NewRun]
    totals: dict[BucketKey, Totals]
    marks: list[Mark]


class _PageApart(NamedTuple):
    """A page, with the names of its customers by its own numbers for them."""

    position: int
    customers: list[str]
    meters: list[_MeterApart]


class _Numbers(dict[str, int]):
    """A page's own numbers for customers, from 0 on as they come."""

    def __missing__(self, customer: str) -> int:
        number = self[customer] = len(self)
        return number


def fold_apart(
    page: StoredPage, after: int, until: int, most_cancels: int, meters: Mapping[str, ProjectedMeter]
) -> bytes:
    """What a page says of `meters`, for `take`.

    Nothing where it can't be told apart: it has news of meters, or something is in the way of folding it.
    """
    if any(topic in NEWS for _, topic, _ in page.others):
        return b""
    events, customers = PageRead(no_rows, page, after, until, most_cancels), _Numbers()
    try:
        folded = fold(events, meters, customers, {})
    except (TallybookError, NotPutTogether):
        return b""
    gains = map(gained, folded)
    told = [_MeterApart(one.meter.event_name, list(one.runs), dict(one.totals), list(one.marks)) for one in gains]
    return _encode(_PageApart(events.position, list(customers), told))


def take(told: bytes, meters: Mapping[str, ProjectedMeter], customers: Mapping[str, int]) -> FoldedPage:
    """A page that was folded apart, for the `meters` by whose rules it was and the `customers` that there are now."""
    position, names, gains = _decode(told)
    numbers = [customers[name] for name in names]
    return FoldedPage(position, [_numbered(gain, meters[gain.event_name], numbers) for gain in gains])


def _numbered(gain: _MeterApart, meter: ProjectedMeter, numbers: Sequence[int]) -> MeterGain:
    def key_of(key: BucketKey) -> BucketKey:
        return numbers[key[0]], key[1], key[2]

    runs = [NewRun(run._replace(key=key_of(run.key)), number, packed) for run, number, packed in gain.runs]
    totals = {key_of(key): of for key, of in gain.totals.items()}
    return MeterGain(meter, False, runs, totals, [mark._replace(key=key_of(mark.key)) for mark in gain.marks])


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_PageApart).decode
