"""The tree of errors: each class is in one category, with a code of its own and an HTTP status."""

import copy
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tallybook.application

import tallybook
from tallybook import (
    Conflict,
    Corrupted,
    IncompatibleEvent,
    InvalidRequest,
    NotFound,
    Outcome,
    PermissionDenied,
    Receipt,
    Receipts,
    TallybookError,
    Unavailable,
)

STATUS: dict[type[TallybookError], int] = {
    InvalidRequest: 400,
    NotFound: 404,
    Conflict: 409,
    PermissionDenied: 403,
    Unavailable: 503,
    Corrupted: 500,
}
PUBLIC_MODULES = ("tallybook.domain.errors.", "tallybook.application.results")
OTHER_STATUS = {
    "MeterNotFound": 400, "MeterAlreadyExists": 400, "DuplicateMeterEvent": 400, "PeriodOverlaps": 400,
    "PeriodNotClosed": 400, "CustomerWithoutUsage": 400, "BillingRunInProgress": 400,
    "AdjustmentNotFound": 400, "SettlementExists": 400, "PeriodSettled": 400,
    "InvalidAccessKey": 401, "DatabasePermissionDenied": 503, "ReadModelsMissing": 503,
    "RowRejected": 503,
}  # fmt: skip
"""Stripe answers some conflicts with 400, which SDKs don't retry."""


def subclasses(error_class: type[TallybookError]) -> Iterator[type[TallybookError]]:
    for subclass in error_class.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def all_errors() -> list[type[TallybookError]]:
    """All error classes, of all modules of the package."""
    for module in pkgutil.walk_packages(tallybook.application.__path__, "tallybook.application."):
        if not module.name.endswith("__main__") and ".interfaces.django." not in module.name:  # needs a project
            importlib.import_module(module.name)
    return [error for error in subclasses(TallybookError) if error.__module__.startswith("tallybook.")]


def test_each_error_is_in_one_category_with_its_status() -> None:
    """A class outside of the categories would get the status of an unexpected error."""
    errors = all_errors()
    assert len(errors) > 45
    for error in errors:
        categories = [category for category in STATUS if issubclass(error, category)]
        assert len(categories) == 1, error
        expected = OTHER_STATUS.get(error.__name__, STATUS[categories[0]])
        assert error.http_status == expected, error


def test_codes_are_unique() -> None:
    """Programs match on them. A private subclass has the code of its base."""
    public = [error for error in all_errors() if error.__module__.startswith(PUBLIC_MODULES)]
    codes = [error.code for error in public]
    assert len(codes) == len(set(codes))
    assert {error.code for error in all_errors()} == set(codes)


@pytest.mark.parametrize("category", STATUS)
def test_a_new_error_has_the_status_of_its_category(category: type[TallybookError]) -> None:
    """Nothing has to be registered."""
    new_error = type("NewError", (category,), {"code": "new"})
    assert new_error("Something is wrong.").http_status == STATUS[category]


def test_every_public_error_is_exported() -> None:
    """`from tallybook import MeterNotFound` works for each."""
    for error in all_errors():
        if error.__module__.startswith("tallybook.domain.errors."):
            assert getattr(tallybook, error.__name__) is error


ARGUMENTS: dict[str, Any] = {
    "message": "why", "receipts": Receipts([Receipt("req-1", None, Outcome.REJECTED)]), "position": 7, "count": 1,
    "events": (IncompatibleEvent(7, "req-1", "tokens", "payload_invalid_value", "why"),),
}  # fmt: skip
"""What the constructors of errors require, by name."""


def unpickled(error: TallybookError) -> TallybookError:
    """Return an error as another process receives it."""
    return pickle.loads(pickle.dumps(error))


@pytest.mark.parametrize("copied", [unpickled, copy.copy, copy.deepcopy])
def test_each_error_can_be_copied_and_sent_to_another_process(
    copied: Callable[[TallybookError], TallybookError],
) -> None:
    """Otherwise a `multiprocessing.Pool` whose worker raises it waits forever."""
    for error_class in all_errors():
        parameters = inspect.signature(error_class).parameters.values()
        required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
        error = error_class(**{name: ARGUMENTS[name] for name in required})
        error.field, error.value = "field", 5
        copy_of_error = copied(error)
        assert type(copy_of_error) is error_class
        assert (str(copy_of_error), vars(copy_of_error)) == ("why", vars(error))
