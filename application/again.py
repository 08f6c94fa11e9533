"""Asking again where a connection was lost in the middle of a question: it changes nothing."""

from tenacity import retry, retry_if_exception_type, retry_if_not_exception_type, stop_after_attempt

from .stores.store import TransientFailure, Unreachable

TRIES = 3

again_if_lost = retry(
    # Who was unreachable has been waited for.
    retry=retry_if_exception_type(TransientFailure) & retry_if_not_exception_type(Unreachable),
    stop=stop_after_attempt(TRIES),
    reraise=True,
)
"""A question that is asked again where it was interrupted; told as LedgerUnavailable in the end."""
