"""Object stores, through the package obstore: opened by URL, with errors in one line and without credentials."""

from datetime import timedelta
from typing import Any

from obstore.exceptions import BaseError
from obstore.store import from_url

from ..domain.errors import TallybookError
from .redaction import has_user_info, redact, redact_invalid_url, redact_queries

_STORES = ("MemoryStore", "S3Store", "GCSStore", "AzureStore", "LocalStore", "HTTPStore")


def is_object_store(value: object) -> bool:
    """Return whether this is a store of obstore."""
    return type(value).__name__ in _STORES and type(value).__module__.startswith("obstore")


def open_object_store(
    url: str,
    invalid_url: type[TallybookError],
    field: str,
    problem: str,
    advice: str,
    retry_timeout: timedelta | None = None,
) -> Any:
    """Return the store of a URL, such as s3://bucket/prefix. Raise `invalid_url`: the problem, its cause, and advice.

    Credentials and options are those of the environment, such as AWS_ACCESS_KEY_ID. A URL with a user or a query is
    rejected: it is stored with what is read from it, and shown in logs. Requests that fail are repeated for up to
    `retry_timeout`, or three minutes.
    """
    shown = redact_invalid_url(url)
    if has_user_info(url) or "?" in url:
        raise invalid_url(
            f"The URL {shown!r} has a user, a password or a query. It would be stored and logged: leave them out, and "
            "set credentials in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            field=field,
            value=shown,
        )
    try:
        return from_url(url, retry_config=None if retry_timeout is None else {"retry_timeout": retry_timeout})
    except (BaseError, OSError, ValueError) as error:
        raise invalid_url(f"{problem}: {first_line(error)}. {advice}", field=field, value=url) from error


def first_line(error: Exception) -> str:
    """Return the first line of a message, without credentials; the other lines of obstore's messages are for debugging.

    The URLs of requests may be signed with a credential of the environment. If the store is S3 and its address begins
    with http://, return what allows that: the first line doesn't say it.
    """
    if str(error).startswith("Generic S3 error") and "BadScheme" in str(error):
        return "AWS_ENDPOINT_URL begins with http://, without encryption; set AWS_ALLOW_HTTP=true to allow that"
    line = (str(error) or type(error).__name__).partition("\n")[0].rstrip(".")
    return redact(redact_queries(line))
