"""The ledger and the outbox of a Django process, by the setting TALLYBOOK."""
# pyright: basic, reportMissingTypeStubs=false

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from tallybook.application import AcceptancePolicy, Metering, Outbox, PostgresSettings

DEFAULTS: Mapping[str, Any] = {
    "LEDGER": None,
    "DATABASE": "default",
    "SCHEMA": "tallybook",
    "MAX_CONNECTIONS": 4,
    "TIMEOUT_SECONDS": 5,
    "POLICY": {},
    "METERS": {},
    "ACCESS_LOG_CUSTOMERS": None,
}
"""The entries of the setting TALLYBOOK.

`DATABASE` is the alias of the database with the outbox. `LEDGER` is the URL of the ledger; by default it is in the
schema `SCHEMA` of that database, on PostgreSQL, with its connection parameters. `POLICY` has the arguments of
AcceptancePolicy that differ from its defaults. `METERS` are the arguments of `meters.configure` by event name: these
meters are configured when the ledger is opened. `ACCESS_LOG_CUSTOMERS` is an argument of Metering.open.
"""
_opening = Lock()


def metering() -> Metering:
    """Return the ledger of this process. It is opened at its first use: after the server has forked its workers."""
    with _opening:
        return _open_ledger(os.getpid())


def outbox() -> Outbox:
    """Return the outbox in the database of the setting."""
    opened = metering()
    with _opening:
        return _open_outbox(os.getpid(), opened)


def setting(name: str) -> Any:
    """Return an entry of the setting TALLYBOOK, or its default. Raise ImproperlyConfigured."""
    entries: Mapping[str, Any] = getattr(settings, "TALLYBOOK", {})
    if unknown := entries.keys() - DEFAULTS.keys():
        raise ImproperlyConfigured(
            f"TALLYBOOK has no entry {min(unknown)!r}; it can have {', '.join(sorted(DEFAULTS))}."
        )
    return entries.get(name, DEFAULTS[name])


@cache
def _open_ledger(_process: int) -> Metering:
    opened = Metering.open(
        _ledger_location(),
        policy=AcceptancePolicy(**setting("POLICY")),
        access_log_customers=setting("ACCESS_LOG_CUSTOMERS"),
    )
    for event_name, rules in setting("METERS").items():
        opened.meters.configure(event_name, **rules)
    return opened


@cache
def _open_outbox(_process: int, opened: Metering) -> Outbox:
    connection = connections[setting("DATABASE")]
    if connection.vendor == "sqlite":
        return Outbox(opened, f"sqlite:///{quote(str(Path(connection.settings_dict['NAME']).absolute()))}")
    return Outbox(opened, PostgresSettings(parameters=_libpq_parameters(connection), timeout_seconds=_timeout()))


def _ledger_location() -> str | PostgresSettings:
    if setting("LEDGER") is not None:
        return setting("LEDGER")
    connection = connections[setting("DATABASE")]
    if connection.vendor != "postgresql":
        raise ImproperlyConfigured(
            "TALLYBOOK needs the entry LEDGER, such as 'sqlite:////var/lib/usage.db': only in PostgreSQL, the ledger "
            "is in the database of the project by default."
        )
    return PostgresSettings(
        parameters=_libpq_parameters(connection),
        schema_name=setting("SCHEMA"),
        max_connections=setting("MAX_CONNECTIONS"),
        timeout_seconds=_timeout(),
    )


def _timeout() -> float:
    return setting("TIMEOUT_SECONDS")


def _libpq_parameters(connection: Any) -> dict[str, Any]:
    """Return the parameters of one of Django's connections that libpq has too."""
    from psycopg.pq import Conninfo  # noqa: PLC0415 - the extra `postgres`

    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    return {name: value for name, value in connection.get_connection_params().items() if name in known}
