"""The libpq parameters of a ledger's connections."""

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from .settings import PostgresSettings
from .url_parameters import require_known_parameters, require_valid_port, unparsable_url

MIN_CONNECT_TIMEOUT_SECONDS = 2
"""libpq's shortest connect_timeout."""
_KEEPALIVE_COUNT = 4


def connection_parameters(settings: PostgresSettings) -> dict[str, Any]:
    """Return the parameters of every connection. Raise InvalidLedgerUrl.

    The operating system closes a connection whose packets are not acknowledged for `timeout_seconds`, sent data by
    `tcp_user_timeout`, an idle connection by keepalives. Parameters of the URL or the settings override these.
    """
    require_known_parameters(settings)
    try:
        parameters: dict[str, Any] = dict(conninfo_to_dict(settings.url.get_secret_value()))
        for key, value in settings.parameters.items():
            parameters[key] = value.get_secret_value() if isinstance(value, SecretStr) else value
        make_conninfo("", **parameters)
    except psycopg.Error:  # its message contains parts of the URL
        raise unparsable_url(settings.url.get_secret_value()) from None
    require_valid_port(parameters.get("port", ""))
    timeout_seconds = settings.timeout_seconds
    defaults = {
        "application_name": "tallybook",
        "connect_timeout": max(round(timeout_seconds), MIN_CONNECT_TIMEOUT_SECONDS),
        "tcp_user_timeout": max(round(timeout_seconds * 1000), 1),  # 0 would be the operating system's default
        "keepalives_idle": max(round(timeout_seconds / 3), 1),
        "keepalives_interval": max(round(timeout_seconds / 6), 1),
        "keepalives_count": _KEEPALIVE_COUNT,
    }
    prepare_options = {} if settings.prepared_statements else {"prepare_threshold": None}
    # Overrides the settings of the role and the environment: other encodings cannot represent every text.
    return {**defaults, **parameters, **prepare_options, "client_encoding": "UTF8", "autocommit": True}


def describe_location(settings: PostgresSettings, schema: str) -> str:
    """Return the database and the schema for messages, without a password."""
    parameters = connection_parameters(settings)
    name = str(parameters.get("dbname") or "by default")
    database = "by a URL of its own" if set("=/") & set(name) else repr(name)  # the name may contain a password
    host = parameters.get("host") or parameters.get("hostaddr") or "the local server"
    return f"{host}, database {database}, schema {schema!r}"
