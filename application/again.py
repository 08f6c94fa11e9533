"""Asking again where a connection was lost in the middle of a question: it changes nothing."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from .stores.store import TransientFailure, Unreachable

Params = ParamSpec("Params")
Answer = TypeVar("Answer")

TRIES = 3
"""The last one is answered, or told as it is."""


def again_if_lost(question: Callable[Params, Answer]) -> Callable[Params, Answer]:
    """A question that is asked again where it was interrupted; told as LedgerUnavailable in the end."""

    @wraps(question)
    def asked(*args: Params.args, **kwargs: Params.kwargs) -> Answer:
        for _ in range(TRIES - 1):
            try:
                return question(*args, **kwargs)
            except Unreachable:
                raise  # it was waited for
            except TransientFailure:
                continue
        return question(*args, **kwargs)

    return asked
