"""A Django project with the application, as a program that prints results.

Run it with `python -m tests.outbox.django_project HOST_URL LEDGER_URL`.
"""
# pyright: basic, reportMissingTypeStubs=false

import json
import sys
from contextlib import suppress
from io import StringIO
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from psycopg.conninfo import conninfo_to_dict


def main(host_url: str, ledger_url: str) -> None:
    """Migrate, record in transactions, relay, and print the results as JSON."""
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.admin",
                        "django.contrib.messages", "tallybook.django"],
        DATABASES={"default": database(host_url)},
        TALLYBOOK={
            "LEDGER": ledger_url or None,
            "SCHEMA": "usage_of_django",
            "POLICY": {"max_age": None},
            "METERS": {"tokens": {"customer_key": "customer", "value_key": "tokens"}},
        },
        USE_TZ=True,
    )  # fmt: skip
    django.setup()
    print_result("changes", call("makemigrations", "--check", "--dry-run"))
    call("migrate", "tallybook")

    from django.contrib import admin  # noqa: PLC0415
    from tallybook.django import metering, outbox  # noqa: PLC0415
    from tallybook.django.models import OutboxRow  # noqa: PLC0415

    payload = {"customer": "acme", "tokens": "5"}
    atomic: Any = transaction.atomic
    rows: Any = OutboxRow
    with atomic():
        outbox().record(connection, "tokens", payload, identifier="committed")
        with suppress(ValueError), atomic():
            outbox().record(connection, "tokens", payload, identifier="undone")
            raise ValueError
    with suppress(ValueError), atomic():
        outbox().record(connection, "tokens", payload, identifier="rolled back")
        raise ValueError
    outbox().record(connection, "images", payload, identifier="early")
    print_result("rows", list(rows.objects.values_list("identifier", "state")))
    row_admin: Any = admin.site.get_model_admin(OutboxRow)
    print_result("admin", [getattr(row_admin, f"has_{name}_permission")(None) for name in ("add", "change", "delete")])
    print_result("relay", call("tallybook_relay", "--once"))
    print_result("rejected", list(rows.objects.values_list("identifier", "state", "error_code")))
    print_result("events", [event.identifier for event in metering().events("tokens")])
    print_result("verify", call("tallybook_verify"))
    print_result("close", call("tallybook_close", "2026-01", "--timezone", "Europe/Berlin", "--by", "ops"))
    print_result("invalid", call("tallybook_close", "January"))


def database(url: str) -> dict[str, str]:
    """Return the settings of a database."""
    if url.startswith("sqlite"):
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": url.removeprefix("sqlite:///")}
    parameters = conninfo_to_dict(url)
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    return {"ENGINE": "django.db.backends.postgresql"} | {
        key: str(parameters[name]) for key, name in names.items() if name in parameters
    }


def call(*command: str) -> str:
    """Return the output of a command, or its error."""
    output = StringIO()
    try:
        call_command(*command, stdout=output)
    except CommandError as error:
        output.write(f"error: {error}")
    return output.getvalue().strip()


def print_result(name: str, result: object) -> None:
    """Print a line of JSON."""
    sys.stdout.write(json.dumps([name, result]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
