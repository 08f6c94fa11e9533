"""The rules of meters in the model: how they read a payload, without any code of the package."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..properties.naive import HistoryEntry

LATER_FIELDS = ("optional_dimension_keys", "filter", "multiplier")
"""The fields that a stored event leaves out if they have no value."""


@dataclass(frozen=True)
class Rules:
    """Rules, and how they read a payload; the fields are named like the arguments of the API.

    A filter is one condition, that a key equals a text.
    """

    formula: str = "sum"
    event_time_window: str | None = None
    customer_key: str = "stripe_customer_id"
    value_key: str = "value"
    dimension_keys: tuple[str, ...] = ()
    optional_dimension_keys: tuple[str, ...] = ()
    filter: Mapping[str, str] | None = field(default=None, hash=False)
    multiplier: str | None = None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Rules":
        """Return the rules of a stored event."""
        return replace(
            cls(**fields),
            dimension_keys=tuple(fields["dimension_keys"]),
            optional_dimension_keys=tuple(fields.get("optional_dimension_keys", ())),
        )

    @classmethod
    def from_view(cls, view: Any) -> "Rules":
        """Return the rules that a view of a meter or of a generation shows."""
        return cls(
            view.formula, view.event_time_window, view.customer_key, view.value_key, view.dimension_keys,
            view.optional_dimension_keys, None if view.filter is None else view.filter.model_dump(mode="json"),
            None if view.multiplier is None else str(view.multiplier),
        )  # fmt: skip

    def window_of_range(self, *, exact: bool) -> str | None:
        """Return the window whose start decides whether an event is in a range; None if `exact`: its own time does."""
        return None if exact else self.event_time_window

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the rules as arguments of the API."""
        return dict(vars(self))

    @property
    def stored_fields(self) -> dict[str, Any]:
        """Return the rules as they are stored."""
        keys = {
            "dimension_keys": list(self.dimension_keys),
            "optional_dimension_keys": list(self.optional_dimension_keys),
        }
        fields: dict[str, Any] = self.arguments | keys
        return {name: value for name, value in fields.items() if value or name not in LATER_FIELDS}

    def is_filtered(self, payload: Mapping[str, str]) -> bool:
        """Return whether a payload doesn't match the filter."""
        return self.filter is not None and payload.get(self.filter["key"]) != self.filter["equals"]

    def number_text(self, payload: Mapping[str, str]) -> str | None:
        """Return the text that must be a number, if the rules read one."""
        return None if self.is_filtered(payload) or self.formula == "unique_count" else payload.get(self.value_key)

    def rejection_codes(self, payload: Mapping[str, str]) -> set[str]:
        """Return the codes that a payload may be rejected with."""
        is_filtered, number = self.is_filtered(payload), self.number_text(payload)
        conditions = {
            "payload_no_customer_defined": not payload.get(self.customer_key),
            "payload_no_value_defined": not is_filtered and self.formula != "count" and self.value_key not in payload,
            "payload_invalid_value": number is not None and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", number) is None,
            "missing_dimension_payload_keys": not is_filtered and not set(self.dimension_keys) <= payload.keys(),
        }
        return {code for code, applies in conditions.items() if applies}

    def apply(self, entry: HistoryEntry, payload: Mapping[str, str]) -> HistoryEntry:
        """Return a meter event as these rules read its payload."""
        is_filtered = self.is_filtered(payload)
        is_unique = self.formula == "unique_count" and not is_filtered
        return replace(
            entry,
            customer=payload[self.customer_key],
            value=self.number_text(payload),
            dimensions=tuple(payload.get(key) for key in self.dimension_keys + self.optional_dimension_keys),
            unique_value=payload[self.value_key] if is_unique else None,
            is_filtered=is_filtered,
        )
