"""The fold: from stored events to usages and cancels. Pure; the same for live, rebuild, audit and tests."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from ..domain.counting import Usage
from ..domain.errors import ProjectionStopped, TallybookError
from ..domain.instants import microseconds
from ..domain.meter_event import ReportedUse
from ..domain.rules import Rules
from .rows import LedgerEvent, Mark, ProjectedMeter


class MeterPage:
    """What one page of the ledger says about one meter: new usages in order, and cancels of these or earlier ones."""

    def __init__(self, meter: ProjectedMeter, *, is_new: bool = False) -> None:
        self.meter = meter
        self.is_new = is_new
        self.usages: list[Usage] = []
        self.marks: list[Mark] = []


def fold(
    events: Iterable[LedgerEvent], meters: Mapping[str, ProjectedMeter], customers: Mapping[str, int]
) -> list[MeterPage]:
    """What `events` say, by meter.

    `meters` are those known before; `customers` gives each customer's number, a new one where it has none.
    Raises ProjectionStopped at the first event that can't be folded.
    """
    pages = {event_name: MeterPage(meter) for event_name, meter in meters.items()}
    position, topic = 0, ""
    try:
        for position, topic, state in events:
            if topic == "UsageRecorded":
                _fold_use(position, _decode_use(state), pages, customers)
            elif topic == "EventCancelled":
                _fold_cancel(position, _decode_cancel(state), pages, customers)
            elif topic == "Configured":
                _fold_meter(_decode_meter(state), pages)
            elif topic not in _WITHOUT_USAGE:
                raise KeyError(f"unknown topic {topic!r}; a later Tallybook may have written it")
    except (msgspec.MsgspecError, ValueError, TallybookError, KeyError) as error:
        raise ProjectionStopped(
            f"The event at position {position} ({topic}) can't be folded: {type(error).__name__}: {error}", position
        ) from error
    return [page for page in pages.values() if page.is_new or page.usages or page.marks]


def dimensions_key(values: tuple[str, ...]) -> str:
    """Dimension values as one text, so that rows can be kept by it."""
    return msgspec.json.encode(values).decode() if values else ""


class _StoredCancel(msgspec.Struct):
    recorded_at: datetime
    event_name: str
    payload: dict[str, str]
    occurred_at: datetime
    recorded_position: int


class _StoredMeter(msgspec.Struct):
    event_name: str
    rules: msgspec.Raw


_decode_use = msgspec.json.Decoder(ReportedUse).decode
_decode_cancel = msgspec.json.Decoder(_StoredCancel).decode
_decode_meter = msgspec.json.Decoder(_StoredMeter).decode
_WITHOUT_USAGE = frozenset({"Renamed", "Deactivated", "Reactivated"})


def _fold_use(position: int, use: ReportedUse, pages: dict[str, MeterPage], customers: Mapping[str, int]) -> None:
    page = pages[use.event_name]
    reading = page.meter.rules.read(use.payload)
    page.usages.append(
        Usage(
            customers[reading.customer],
            microseconds(use.occurred_at),
            position,
            dimensions_key(reading.dimensions) if reading.dimensions else "",
            reading.value,
            microseconds(use.recorded_at),
        )
    )


def _fold_cancel(
    position: int, cancelled: _StoredCancel, pages: dict[str, MeterPage], customers: Mapping[str, int]
) -> None:
    page = pages[cancelled.event_name]
    reading = page.meter.rules.read(cancelled.payload)
    page.marks.append(
        Mark(
            customers[reading.customer],
            microseconds(cancelled.occurred_at),
            cancelled.recorded_position,
            microseconds(cancelled.recorded_at),
            position,
        )
    )


def _fold_meter(configured: _StoredMeter, pages: dict[str, MeterPage]) -> None:
    rules = Rules.model_validate_json(bytes(configured.rules))
    meter = ProjectedMeter(len(pages) + 1, configured.event_name, rules)
    pages[configured.event_name] = MeterPage(meter, is_new=True)
