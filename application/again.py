"""Asking again where a connection was lost in the middle of a question: it changes nothing."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tenacity import retry, retry_if_exception_type, retry_if_not_exception_type, stop_after_attempt

from .stores.store import TransientFailure, Unreachable

Params = ParamSpec("Params")
Answer = TypeVar("Answer")

_retried = retry(
    retry=retry_if_exception_type(TransientFailure) & retry_if_not_exception_type(Unreachable),
    stop=stop_after_attempt(2),
    reraise=True,
)


def again_if_lost(question: Callable[Params, Answer]) -> Callable[Params, Answer]:
    """A question that is asked again, twice at most, where it was interrupted; told as LedgerUnavailable in the end."""
    again = _retried(question)

    @wraps(question)
    def asked(*args: Params.args, **kwargs: Params.kwargs) -> Answer:
        try:  # at first without tenacity, which takes 15 microseconds: a tenth of a short question
            return question(*args, **kwargs)
        except Unreachable:
            raise  # it was waited for
        except TransientFailure:
            return again(*args, **kwargs)

    return asked
