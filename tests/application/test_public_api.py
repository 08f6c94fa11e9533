"""The public API exports every type that Metering accepts and returns."""

import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

from tallybook.application import Metering

from tallybook import application


def named_classes(annotation: Any, seen: set[type]) -> Iterator[type]:
    """Yield the project's classes in an annotation, and those in their fields."""
    for inner in get_args(annotation):
        yield from named_classes(inner, seen)
    if not inspect.isclass(annotation) or not annotation.__module__.startswith("tallybook.") or annotation in seen:
        return
    seen.add(annotation)
    yield annotation
    if is_dataclass(annotation) or hasattr(annotation, "model_fields") or hasattr(annotation, "_fields"):
        for field in get_type_hints(annotation).values():
            yield from named_classes(field, seen)


def test_every_parameter_and_result_type_is_exported() -> None:
    """Types of fields too, so that users need no internal module."""
    seen: set[type] = {Metering}
    calls = [call for name, call in inspect.getmembers(Metering, inspect.isroutine) if not name.startswith("_")]
    classes = [
        named_class
        for call in calls
        for hint in get_type_hints(call).values()
        for named_class in named_classes(hint, seen)
    ]
    assert len(classes) > 20
    missing = {
        named_class.__name__
        for named_class in classes
        if getattr(application, named_class.__name__, None) is not named_class
    }
    assert not missing


def test_what_is_exported_is_listed_in_order() -> None:
    """`__all__` is sorted, and every name exists."""
    listed = application.__all__
    assert all(hasattr(application, name) for name in listed)
    assert sorted(listed) == listed
