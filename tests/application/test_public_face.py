"""What tallybook.application exports: all that the calls of Metering take and give."""

import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

from tallybook import application
from tallybook.application import Metering


def named(annotation: Any, seen: set[type]) -> Iterator[type]:
    """The classes of ours that an annotation names, and those that the fields of these name."""
    for inner in get_args(annotation):
        yield from named(inner, seen)
    if not inspect.isclass(annotation) or not annotation.__module__.startswith("tallybook.") or annotation in seen:
        return
    seen.add(annotation)
    yield annotation
    if is_dataclass(annotation) or hasattr(annotation, "model_fields") or hasattr(annotation, "_fields"):
        for field in get_type_hints(annotation).values():
            yield from named(field, seen)


def test_every_type_that_a_call_takes_or_gives_is_exported() -> None:
    """Also those within them: no user has to look for a module of ours."""
    seen: set[type] = {Metering}
    calls = [call for name, call in inspect.getmembers(Metering, inspect.isroutine) if not name.startswith("_")]
    found = [one for call in calls for hint in get_type_hints(call).values() for one in named(hint, seen)]
    assert len(found) > 20
    missing = {one.__name__ for one in found if getattr(application, one.__name__, None) is not one}
    assert not missing


def test_what_is_exported_is_listed_in_order() -> None:
    """By name, and all of it is there."""
    listed = application.__all__
    assert all(hasattr(application, name) for name in listed)
    assert sorted(listed) == listed
