"""Rejected meter events leave nothing in memory: their errors, with tracebacks and frames, are released."""

import gc
import importlib
import os
import pkgutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import psutil
import tallybook.projections
from tallybook.domain.counting import RevokedCancellation

from tallybook import Metering, TallybookError

EVENTS = int(os.environ.get("TALLYBOOK_TEST_REJECTED_EVENTS", "60000"))
MAX_GROWTH_BYTES = 20_000_000
"""A tenth of what the errors would take if they were not released."""
REJECTED: list[Any] = [
    *[{"event_name": "tokens", "payload": {"stripe_customer_id": "acme", "value": "bad"}}] * 10,
    *[{"event_name": "token", "payload": {"stripe_customer_id": "acme", "value": "1"}}] * 10,
    *[{"event_name": "tokens", "payload": {"value": "1"}}] * 5,
    *[{"event_name": "tokens", "payload": 7}] * 5,
]
ACCEPTED = [
    {"event_name": "tokens", "payload": {"stripe_customer_id": "acme", "value": "1"}, "identifier": f"event-{number}"}
    for number in range(20)
]


def test_many_rejected_and_accepted_events_leave_memory_flat() -> None:
    """The process has the same size after all batches as after the first tenth of them."""
    batches = EVENTS // len(REJECTED + ACCEPTED)
    sizes: list[int] = []
    with Metering.open("sqlite://") as metering:
        metering.meters.configure("tokens")
        for number in range(batches):
            receipts = metering.record_many([*REJECTED, *ACCEPTED])
            assert (receipts.rejected, receipts[-1].error) == (len(REJECTED), None)
            if number in (batches // 10, batches - 1):
                sizes.append(psutil.Process().memory_info().rss)
    assert sizes[1] - sizes[0] < MAX_GROWTH_BYTES


def test_errors_of_dropped_receipts_are_collected() -> None:
    """The garbage collector finds every cycle of an error, its traceback and its frames."""
    with Metering.open("sqlite://") as metering:
        metering.meters.configure("tokens")
        of_other_tests = living_errors()
        metering.record_many(REJECTED)
        assert living_errors() == of_other_tests


def living_errors() -> list[TallybookError]:
    """Return the errors that are still referred to. `isinstance` would ask lazy objects of other packages."""
    gc.collect()
    return [thing for thing in gc.get_objects() if issubclass(type(thing), TallybookError)]


def test_structs_that_are_not_collected_hold_plain_values() -> None:
    """Without `gc`, a cycle through a struct would never be released: its fields cannot be part of one."""
    for module in pkgutil.walk_packages(tallybook.projections.__path__, "tallybook.projections."):
        importlib.import_module(module.name)
    structs = [struct for struct in subclasses(msgspec.Struct) if not struct.__struct_config__.gc]
    assert len(structs) >= 5
    for struct in structs:
        for field in msgspec.structs.fields(struct):
            assert is_plain(field.type), f"{struct.__name__}.{field.name}: {field.type}"


def subclasses(struct: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """Yield all structs of the package."""
    for subclass in struct.__subclasses__():
        if subclass.__module__.startswith("tallybook."):
            yield subclass
        yield from subclasses(subclass)


def is_plain(annotation: Any) -> bool:
    """Return whether values of a type cannot refer to other objects than plain ones."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return is_plain(arguments[0])
    if origin in (Union, UnionType, dict, tuple, frozenset):
        return all(is_plain(argument) for argument in arguments if argument is not Ellipsis)
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return not annotation.__struct_config__.gc
    if annotation is RevokedCancellation:
        return all(map(is_plain, get_type_hints(RevokedCancellation).values()))
    return annotation in (int, str, bytes, bool, Decimal, NoneType, datetime, timedelta, msgspec.Raw)
