"""Which column of a usage file means what: a row becomes a report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from .results import MeterView
from .usage_times import read_time

PAYLOAD_PREFIX = "payload_"
_MOST_ZEROS = 100


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a row tells what was used. As it stands, by the columns of Stripe's import templates.

    Every column `payload_KEY` goes into the payload under KEY, unless it is empty, and so does each column of `payload`
    under the key it is mapped to. The column `value`, and the column `customer` or the one `customer_name` of all rows,
    go under the meter's own keys. `event_name` is the meter of all rows, whatever they say themselves.
    Without a column for the `identifier`, one called `identifier` serves if there is one.
    """

    event_name: str | None = None
    timestamp: str = "timestamp"
    identifier: str | None = None
    value: str | None = None
    customer: str | None = None
    customer_name: str | None = None
    payload: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def identifier_column(self) -> str:
        """The column of identifiers, should there be one."""
        return self.identifier or "identifier"

    def required(self, meter: MeterView | None) -> list[str]:
        """The columns without which no row can be read; `meter` is that of all rows, if there is one."""
        named = (self.timestamp, self.identifier, self.value, self.customer, *self.payload)
        required = [column for column in named if column is not None]
        if self.event_name is None:
            required.append("event_name")
        if meter is not None:
            keys = [meter.customer_key, *([] if meter.formula == "count" else [meter.value_key]), *meter.dimension_keys]
            required += [PAYLOAD_PREFIX + key for key in keys if key not in self._named_keys(meter)]
        return required

    def report(self, cells: Mapping[str, object], meter_of: Callable[[str], MeterView]) -> dict[str, object]:
        """The report that a row makes. Raises InvalidTimestamp, and what `meter_of` raises."""
        event_name = self.event_name if self.event_name is not None else cells.get("event_name")
        payload = {
            column.removeprefix(PAYLOAD_PREFIX): _written(cell)
            for column, cell in cells.items()
            if column.startswith(PAYLOAD_PREFIX) and not _is_empty(cell)
        }
        if isinstance(event_name, str):
            payload.update(self._named_payload(cells, event_name, meter_of))
        identifier = cells.get(self.identifier_column)
        return {
            "event_name": event_name,
            "payload": payload,
            "identifier": None if _is_empty(identifier) else identifier,
            "timestamp": read_time(_written(cells.get(self.timestamp)), self.timestamp),
        }

    def _named_payload(
        self, cells: Mapping[str, object], event_name: str, meter_of: Callable[[str], MeterView]
    ) -> dict[str, object]:
        named = {key: cells.get(column) for column, key in self.payload.items()}
        if self.value is not None:
            named[meter_of(event_name).value_key] = cells.get(self.value)
        if self.customer is not None:
            named[meter_of(event_name).customer_key] = cells.get(self.customer)
        if self.customer_name is not None:
            named[meter_of(event_name).customer_key] = self.customer_name
        return {key: _written(cell) for key, cell in named.items() if not _is_empty(cell)}

    def _named_keys(self, meter: MeterView) -> set[str]:
        keys = set(self.payload.values())
        if self.value is not None:
            keys.add(meter.value_key)
        if self.customer is not None or self.customer_name is not None:
            keys.add(meter.customer_key)
        return keys


def _is_empty(cell: object) -> bool:
    """Whether a row says nothing here: a CSV can't tell an empty text from none."""
    return cell is None or cell == ""


def _written(cell: object) -> object:
    """A number as the plain decimal text that it is, digit for digit; anything else as it is."""
    if isinstance(cell, str) or not isinstance(cell, int | Decimal) or isinstance(cell, bool):
        return cell
    text = str(cell)
    if isinstance(cell, Decimal) and "E" in text and abs(cell.adjusted()) <= _MOST_ZEROS:
        return format(cell, "f")
    return text
