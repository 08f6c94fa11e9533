"""Retry of queries after a lost connection. A query changes nothing, so it can be repeated."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tenacity import retry, retry_if_exception_type, retry_if_not_exception_type, stop_after_attempt

from ..storage.ports import ConnectTimeout, TransientError

Params = ParamSpec("Params")
Result = TypeVar("Result")

_retried = retry(
    retry=retry_if_exception_type(TransientError) & retry_if_not_exception_type(ConnectTimeout),
    stop=stop_after_attempt(2),
    reraise=True,
)


def retry_on_connection_loss(query: Callable[Params, Result]) -> Callable[Params, Result]:
    """Repeat a query up to twice if its connection is lost; then raise LedgerUnavailable."""
    retried_query = _retried(query)

    @wraps(query)
    def run(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        try:  # first without tenacity, which takes 15 microseconds: a tenth of a short query
            return query(*args, **kwargs)
        except ConnectTimeout:
            raise  # the connection attempt has waited long enough
        except TransientError:
            return retried_query(*args, **kwargs)

    return run
