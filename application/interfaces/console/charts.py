"""Bar charts, drawn on the server: the geometry of the bars, the scale and its labels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from ..formatting import format_number

HEIGHT = 220.0
SLOT = 10.0
_GAP = 1.5
_TOP = 8.0
MAX_LABELS = 7
MAX_SERIES = 7
"""How many groups have a colour of their own; the last one is the sum of all others."""
_FLAT_FACTOR = 30
"""A chart is flat if the largest bar is this many times the median bar."""
Scale = Literal["linear", "log"]


@dataclass(frozen=True, slots=True)
class Slot:
    """A window of the range: its name, where it leads, and the value of each series. Without usage it is empty."""

    name: str
    url: str
    values: Sequence[Decimal]
    is_empty: bool = False

    @property
    def total(self) -> Decimal:
        """The sum of the values."""
        return sum(self.values, Decimal(0))


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of a series in the coordinates of the chart."""

    series: int
    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True, slots=True)
class DrawnSlot:
    """A window with its bars; `x` is its left edge."""

    slot: Slot
    x: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled line of the scale."""

    y: str
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart. `labels` are those of the horizontal axis; `is_flat` tells that a logarithmic scale shows more."""

    slots: Sequence[DrawnSlot]
    ticks: Sequence[Tick]
    labels: Sequence[str]
    series: Sequence[str]
    width: str
    height: str
    zero: str
    scale: Scale
    is_flat: bool


def draw_chart(slots: Sequence[Slot], series: Sequence[str], scale: Scale = "linear") -> Chart:
    """Return a bar chart; the values of several series are stacked, and must not be negative."""
    totals = [float(slot.total) for slot in slots]
    high, low = max([0.0, *totals]), min([0.0, *totals])
    axis = _LogAxis(high, low) if scale == "log" else _LinearAxis(high, low)
    drawn = [
        DrawnSlot(slot, _text(index * SLOT), _bars(slot, index * SLOT + _GAP, axis)) for index, slot in enumerate(slots)
    ]
    magnitudes = sorted(abs(total) for total in totals if total)
    is_flat = bool(magnitudes) and magnitudes[-1] > _FLAT_FACTOR * magnitudes[len(magnitudes) // 2]
    step = max(1, math.ceil(len(slots) / MAX_LABELS))
    ticks = [Tick(_text(axis.y(value)), format_number(_decimal(value))) for value in axis.ticks]
    labels = [slot.name for slot in slots[::step]]
    width = _text(max(len(slots), 1) * SLOT)
    return Chart(drawn, ticks, labels, series, width, _text(HEIGHT), _text(axis.y(0.0)), scale, is_flat)


class _LinearAxis:
    def __init__(self, high: float, low: float) -> None:
        step = _nice_step((high - low) / 4 or 1.0)
        first, last = math.floor(low / step), max(math.ceil(high / step), 1)
        self.ticks = [number * step for number in range(first, last + 1)]

    def y(self, value: float) -> float:
        """Return the height of a value, from the top."""
        high, low = self.ticks[-1], self.ticks[0]
        return _TOP + (high - value) / (high - low) * (HEIGHT - 2 * _TOP)


class _LogAxis:
    """Powers of ten on both sides of zero; values below the smallest power are drawn between it and zero."""

    def __init__(self, high: float, low: float) -> None:
        self._up, self._down = _decades(high), _decades(-low)
        upward = [10.0**number for number in range(self._up + 1)] if self._up else []
        downward = [-(10.0**number) for number in range(self._down, -1, -1)] if self._down else []
        step = max(1, math.ceil(len(upward) / 6))
        self.ticks = [*downward[::step], 0.0, *upward[::step]]

    def y(self, value: float) -> float:
        """Return the height of a value, from the top."""
        size = math.log10(abs(value) + 1)
        span = (self._up + self._down) or 1
        return _TOP + (self._up - math.copysign(size, value)) / span * (HEIGHT - 2 * _TOP)


def _decades(value: float) -> int:
    return max(math.ceil(math.log10(value + 1)), 1) if value > 0 else 0


def _nice_step(rough: float) -> float:
    """Return 1, 2, 2.5 or 5 times a power of ten, the first one that isn't smaller."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * 0.999)


def _bars(slot: Slot, x: float, axis: _LinearAxis | _LogAxis) -> list[Bar]:
    bars: list[Bar] = []
    base = 0.0
    for series, value in enumerate(slot.values):
        if not value:
            continue
        end = base + float(value)
        top, bottom = sorted((axis.y(base), axis.y(end)))
        bars.append(Bar(series, _text(x), _text(top), _text(SLOT - 2 * _GAP), _text(max(bottom - top, 1.0))))
        base = end
    return bars


def _decimal(value: float) -> Decimal:
    number = Decimal(f"{value:.10g}")
    return number.quantize(Decimal(1)) if number == number.to_integral_value() else number


def _text(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
