"""Answers as JSON: what Python attributes are called, with exact decimals and UTC times as text."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast


def as_json(value: object) -> str:
    """`value` as one JSON document."""
    return json.dumps(as_plain(value), ensure_ascii=False, indent=2)


def as_plain(value: object) -> object:
    """`value` as what JSON can say: decimals as plain text that loses no digit, times as ISO 8601 in UTC."""
    match value:
        case Decimal():
            return format(value, "f")
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case Mapping():
            return {str(key): as_plain(one) for key, one in cast(Mapping[object, object], value).items()}
        case None | bool() | int() | float() | str():
            return value
        case Path():
            return str(value)
        case _:
            return _composed(value)


def _composed(value: Any) -> object:
    """A value object of ours, by its fields and properties; an error; or a list of such."""
    if is_dataclass(value):
        properties = [name for name, one in vars(type(value)).items() if isinstance(one, property)]
        return {name: as_plain(getattr(value, name)) for name in [*(one.name for one in fields(value)), *properties]}
    for as_mapping in ("_asdict", "model_dump", "as_dict"):
        if hasattr(value, as_mapping):
            return as_plain(getattr(value, as_mapping)())
    return [as_plain(one) for one in value]
