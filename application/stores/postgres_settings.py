"""Where a ledger on PostgreSQL is, and how it is connected to: what a host application brings along."""

import re
from collections.abc import Mapping
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from ...domain.errors import InvalidLedgerUrl, TallybookError

SCHEMES = ("postgresql", "postgres")
_LONGEST_NAME = 63 - len("_views")


class PostgresSettings(BaseModel):
    """A ledger on PostgreSQL.

    `url` is libpq's, `postgresql://user@host:port/database`, and may lack whatever `parameters` holds: these are
    libpq's too (`password`, `sslmode`, `options`, …), go to every connection, and come first. `schema_name` is the
    schema that holds the ledger; its read models lie in another one, with `_views` after its name. At most
    `max_connections` are open for recording and asking, and one more each for rebuilding, verifying and running a
    projection. `timeout_seconds` is how long to wait for a connection, for a lock, and for a server that has gone to
    come back. Without `prepared_statements` each statement is planned whenever it is used, as a pooler needs that gives
    every transaction another connection.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)  # which may be a password

    url: SecretStr = SecretStr("postgresql://")
    parameters: Mapping[str, str | int | SecretStr] = Field(default={}, repr=False)  # a password among them
    schema_name: str = "tallybook"
    max_connections: int = Field(default=10, ge=2)
    timeout_seconds: float = Field(default=30, gt=0, le=3_600)
    prepared_statements: bool = True

    @field_validator("schema_name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        is_reserved = name.lower().startswith("pg_") or not set("\0%?").isdisjoint(name)
        if is_reserved or not 1 <= len(name.encode()) <= _LONGEST_NAME:
            raise ValueError(
                f"a schema has a name of 1 to {_LONGEST_NAME} bytes, without '%' and '?', that doesn't begin with 'pg_'"
            )
        return name

    @classmethod
    def parse(cls, url: str) -> "PostgresSettings":
        """The settings in a ledger URL: libpq's, left as they are, and perhaps `schema=` among its parameters.

        Raises InvalidLedgerUrl.
        """
        address, mark, query = url.partition("?")
        user, _, rest_of_it = address.partition("//")[2].partition("@")
        if ("/" in user and rest_of_it) or "@" in rest_of_it:
            raise refused_url("in a user, a password or a database, '@' is written as %40, and '/' as %2F")
        parameters = query.split("&") if mark else []
        rest = [one for one in parameters if not one.startswith("schema=")]
        try:
            schemas = {unquote(one.removeprefix("schema="), errors="strict") for one in parameters if one not in rest}
            if len(schemas) > 1:
                raise ValueError("it names several schemas")
            libpq = SecretStr(f"{address}?{'&'.join(rest)}" if rest else address)
            return cls(url=libpq, schema_name=schemas.pop() if schemas else "tallybook")
        except ValidationError as error:
            raise refused_url(error.errors()[0]["msg"]) from None  # which shows no password
        except ValueError as error:
            raise refused_url(str(error)) from None


def refused_url(why: str) -> TallybookError:
    """The refusal of a ledger URL, which isn't shown: it may hold a password."""
    shown = _PARTS.sub("…", why)
    return InvalidLedgerUrl(
        f"A ledger URL on PostgreSQL is 'postgresql://user@host/database?schema=name', as libpq reads it: {shown}.",
        field="url",
    )


_PARTS = re.compile(r"(?<=percent-encoded token: |percent-encoded value: ).*", re.DOTALL)
"""The part of a URL in what libpq says of it."""
