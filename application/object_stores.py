"""Object stores, through the package obstore: opened by URL, with errors in one line."""

from typing import Any

from obstore.exceptions import BaseError
from obstore.store import from_url

from ..domain.errors import TallybookError

_STORES = ("MemoryStore", "S3Store", "GCSStore", "AzureStore", "LocalStore", "HTTPStore")


def is_object_store(value: object) -> bool:
    """Return whether this is a store of obstore."""
    return type(value).__name__ in _STORES and type(value).__module__.startswith("obstore")


def open_object_store(url: str, invalid_url: type[TallybookError], field: str, problem: str, advice: str) -> Any:
    """Return the store of a URL, such as s3://bucket/prefix. Raise `invalid_url`: the problem, its cause, and advice.

    Credentials and options are those of the environment, such as AWS_ACCESS_KEY_ID.
    """
    try:
        return from_url(url)
    except (BaseError, OSError, ValueError) as error:
        raise invalid_url(f"{problem}: {first_line(error)}. {advice}", field=field, value=url) from error


def first_line(error: Exception) -> str:
    """Return the first line of a message; the other lines of obstore's messages are for debugging.

    If the store is S3 and its address begins with http://, return what allows that: the first line doesn't say it.
    """
    if str(error).startswith("Generic S3 error") and "BadScheme" in str(error):
        return "AWS_ENDPOINT_URL begins with http://, without encryption; set AWS_ALLOW_HTTP=true to allow that"
    return (str(error) or type(error).__name__).partition("\n")[0].rstrip(".")
