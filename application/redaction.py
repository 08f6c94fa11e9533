"""Text without passwords: ledger URLs, connection strings, and errors that may contain one.

Every message that may contain what a user has typed as a URL passes through here.
"""

import re
from typing import Any, TypeVar

from pydantic import ModelWrapValidatorHandler, ValidationError
from pydantic_core import InitErrorDetails

Model = TypeVar("Model")
HIDDEN = "…"
_SCHEME = re.compile(r"[A-Za-z][\w+.-]*:/*")
_BEFORE_CREDENTIALS = re.compile(r"(?:[A-Za-z][\w+.-]*:/*)?[^@:=?#\s]*")
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^\s:/@]*:.*@", re.DOTALL)
_PASSWORD_PARAMETER = re.compile(
    r"(\b(?:\w*password|passwd|pass|pwd)\s*=\s*)"
    r"""(?:'(?:[^'\\]|\\.)*'?|"(?:[^"\\]|\\.)*"?|[^\s&]+)""",
    re.IGNORECASE | re.DOTALL,
)

_USER_INFO = re.compile(r"(?:file:[/\\]{2}|(?!file:)[a-z][\w+.-]*:[/\\]*)([^/\\?#]*)@", re.IGNORECASE)
_AZURE_CONTAINER = re.compile(r"abfss?://[^:@/?#]+@[^:@/?#]+", re.IGNORECASE)
_QUERY = re.compile(r"(?<=\S)\?[^\s\"')>]+")


def redact(text: str) -> str:
    """Return a text in which the user and the password of URLs, and the values of password parameters, are hidden.

    If a password contains '@', everything up to the last '@' of the text is hidden.
    """
    return _PASSWORD_PARAMETER.sub(rf"\1{HIDDEN}", _USER_AND_PASSWORD.sub(f"{HIDDEN}@", text))


def redact_invalid_url(url: str) -> str:
    """Return the part of a URL that cannot be parsed in which no password can be; it ends with '…' if it is shorter."""
    match = (_SCHEME if "@" in url else _BEFORE_CREDENTIALS).match(url)
    shown = match[0] if match else ""
    return shown if shown == url else f"{shown}{HIDDEN}"


def has_user_info(url: str) -> bool:
    """Return whether a URL has a user or a password before its host. The container of an Azure store is none."""
    return bool(_USER_INFO.match(url.strip())) and not _AZURE_CONTAINER.match(url.strip())


def redact_queries(text: str) -> str:
    """Return a text without the queries of URLs: those of signed URLs are credentials."""
    return _QUERY.sub(f"?{HIDDEN}", text)


def validate_without_input(value: Any, handler: ModelWrapValidatorHandler[Model]) -> Model:
    """Validate a model, and remove the values from the errors. Call it from a `model_validator(mode="wrap")`.

    `hide_input_in_errors` removes them only from the text of a ValidationError.
    """
    try:
        return handler(value)
    except ValidationError as error:
        details = [
            InitErrorDetails(type=line["type"], loc=line["loc"], input=HIDDEN, ctx=line.get("ctx", {}))
            for line in error.errors(include_url=False)
        ]
        raise ValidationError.from_exception_data(error.title, details, hide_input=True) from None
