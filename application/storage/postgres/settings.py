"""Settings of a PostgreSQL ledger: its location and its connections."""

import os
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import unquote

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from ....domain.errors import InvalidLedgerUrl, LedgerUnavailable, TallybookError
from ...redaction import validate_without_input

SCHEMES = ("postgresql", "postgres")
READ_MODELS_SUFFIX = "_read_models"
"""The schema of the read models has the name of the ledger's schema and this suffix."""
_MAX_SCHEMA_NAME_BYTES = 63 - len(READ_MODELS_SUFFIX)


class PostgresSettings(BaseModel):
    """A ledger on PostgreSQL.

    `url` is a libpq URL, `postgresql://user@host:port/database`. `parameters` holds further libpq parameters
    (`password`, `sslmode`, `options`, …), which override the URL. `schema_name` is the schema of the ledger; the schema
    of its read models has the suffix `_read_models`. Recording and queries use at most `max_connections`; a rebuild, a
    verification and a running projection use one more each. `timeout_seconds` limits each wait for a connection, for
    a lock, and for a server that restarts, is read-only or does not answer. Switch `prepared_statements` off for a
    pooler in transaction mode, which gives each transaction another connection: each statement is then planned at each
    execution.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)  # it may be a password

    url: SecretStr = SecretStr("postgresql://")
    parameters: Mapping[str, str | int | SecretStr] = Field(default={}, repr=False)  # may contain a password
    schema_name: str = "tallybook"
    max_connections: int = Field(default=10, ge=2)
    timeout_seconds: float = Field(default=30, gt=0, le=3_600)
    prepared_statements: bool = True

    @model_validator(mode="wrap")
    @classmethod
    def _hide_input(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        return validate_without_input(value, handler)

    @field_validator("schema_name")
    @classmethod
    def _validate_schema_name(cls, name: str) -> str:
        is_reserved = name.lower().startswith("pg_") or not set("\0%?").isdisjoint(name)
        if is_reserved or not 1 <= len(name.encode()) <= _MAX_SCHEMA_NAME_BYTES:
            raise ValueError(
                f"a schema name has 1 to {_MAX_SCHEMA_NAME_BYTES} bytes, no '%' or '?', and does not start with 'pg_'"
            )
        return name

    @classmethod
    def parse(cls, url: str) -> "PostgresSettings":
        """Parse a ledger URL: a libpq URL, with an optional parameter `schema`. Raise InvalidLedgerUrl."""
        address, separator, query = url.partition("?")
        user, _, after_user = address.partition("//")[2].partition("@")
        if ("/" in user and after_user) or "@" in after_user:
            raise invalid_url("in a user, a password or a database, '@' is written as %40, and '/' as %2F")
        parameters = query.split("&") if separator else []
        libpq_parameters = [parameter for parameter in parameters if not parameter.startswith("schema=")]
        try:
            schemas = {
                unquote(parameter.removeprefix("schema="), errors="strict")
                for parameter in parameters
                if parameter not in libpq_parameters
            }
            if len(schemas) > 1:
                raise invalid_url("it names several schemas")
            libpq = SecretStr(f"{address}?{'&'.join(libpq_parameters)}" if libpq_parameters else address)
            return cls(url=libpq, schema_name=schemas.pop() if schemas else "tallybook")
        except ValidationError as error:
            raise invalid_url(error.errors()[0]["msg"]) from None  # the message contains no password
        except UnicodeDecodeError:
            raise invalid_url("the name of the schema is not UTF-8") from None


def invalid_url(reason: str) -> TallybookError:
    """Return the error for a ledger URL. `reason` may not show parts of the URL, which may be those of a password."""
    return InvalidLedgerUrl(
        f"A ledger URL on PostgreSQL is 'postgresql://user@host/database?schema=name', as libpq reads it: {reason}.",
        field="url",
    )


def reject_database_functions() -> None:
    """Raise LedgerUnavailable if the library is set to insert events by database functions, which take no lock.

    Without the lock, readers skip events that are committed late. This recorder never calls the functions, but a
    program that switches them on expects them.
    """
    setting = os.environ.get("POSTGRES_ENABLE_DB_FUNCTIONS", "")
    if setting.strip().lower() not in ("", "0", "n", "no", "f", "false", "off"):
        raise LedgerUnavailable(
            "POSTGRES_ENABLE_DB_FUNCTIONS is set: database functions store events without the lock, so that readers "
            "skip some of them. Unset it."
        )
