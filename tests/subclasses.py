"""Subclasses of the plain types whose methods all raise."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

_NEEDED = {
    "__class__", "__delattr__", "__dir__", "__doc__", "__getattribute__", "__getnewargs__", "__getstate__", "__hash__",
    "__init__", "__init_subclass__", "__new__", "__reduce__", "__reduce_ex__", "__setattr__", "__sizeof__",
    "__subclasshook__",
}  # fmt: skip
"""The methods that Python calls to create a value and to put it into a dict."""


def _hostile(base: type) -> Any:
    """Return a subclass of `base` that overrides every method and operator with one that raises."""

    def fail(*_args: object, **_kwargs: object) -> Any:
        raise RuntimeError("a method of a subclass was called")

    names = [name for name in dir(base) if callable(getattr(base, name)) and name not in _NEEDED]
    return type(f"Hostile{base.__name__.title()}", (base,), {**dict.fromkeys(names, fail), "__hash__": base.__hash__})


HostileStr = _hostile(str)
HostileInt = _hostile(int)
HostileDecimal = _hostile(Decimal)
HostileDatetime = _hostile(datetime)
HostileTimedelta = _hostile(timedelta)
