"""The columns of a usage file: which of them become which fields of a meter event."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...domain.formulas import ValueType
from .json_rows import PAYLOAD_PREFIX

if TYPE_CHECKING:  # a process that reads a file needs no meters
    from ...domain.rules import Rules
    from ..meter_views import MeterView


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Which columns of a row become which fields of a meter event. The defaults are Stripe's import templates.

    The payload has KEY with the value of each column `payload_KEY`, and of each column in `payload` under the key it is
    mapped to; empty cells are left out. The column `value`, and the column `customer` or the fixed `customer_name`, are
    stored under the keys of the meter's rules. `event_name` overrides the column `event_name` of all rows. If
    `identifier` is None, a column `identifier` is used if it exists; `identifier_prefix` is put before each. In JSON, a
    column may be a path to a value inside of objects, such as `data.tokens`.
    """

    event_name: str | None = None
    timestamp: str = "timestamp"
    identifier: str | None = None
    value: str | None = None
    customer: str | None = None
    customer_name: str | None = None
    payload: Mapping[str, str] = field(default_factory=dict[str, str])
    identifier_prefix: str = ""

    @property
    def identifier_column(self) -> str:
        """The column that identifiers are read from, if it exists."""
        return self.identifier or "identifier"

    def required_columns(self, meter: "MeterView | Rules | None") -> list[str]:
        """Return the columns that a file must have. `meter` has the rules of all rows; it is None if rows differ.

        Columns of optional dimensions and of keys that only the meter's filter reads may be missing.
        """
        columns = (self.timestamp, self.identifier, self.value, self.customer, *self.payload)
        required = [column for column in columns if column is not None]
        if self.event_name is None:
            required.append("event_name")
        if meter is not None:
            value_keys = [] if meter.formula.rule.value_type is ValueType.OPTIONAL_NUMBER else [meter.value_key]
            keys = [meter.customer_key, *value_keys, *meter.dimension_keys]
            required += [PAYLOAD_PREFIX + key for key in keys if key not in self._named_keys(meter)]
        return required

    def _named_keys(self, meter: "MeterView | Rules") -> set[str]:
        keys = set(self.payload.values())
        if self.value is not None:
            keys.add(meter.value_key)
        if self.customer is not None or self.customer_name is not None:
            keys.add(meter.customer_key)
        return keys
