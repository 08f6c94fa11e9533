"""One of Django's connections, without a project."""
# pyright: basic, reportMissingTypeStubs=false

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings
from django.db import ConnectionHandler
from psycopg.conninfo import conninfo_to_dict


@contextmanager
def django_connection(url: str) -> Generator[Any]:
    """Open one of Django's connections to a database."""
    if not settings.configured:
        settings.configure()
        django.setup()
    if url.startswith("sqlite"):
        parameters = {"ENGINE": "django.db.backends.sqlite3", "NAME": url.removeprefix("sqlite:///")}
    else:
        libpq = conninfo_to_dict(url)
        names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
        parameters = {"ENGINE": "django.db.backends.postgresql"}
        parameters |= {key: str(libpq[name]) for key, name in names.items() if name in libpq}
    connection = ConnectionHandler({"default": parameters})["default"]
    try:
        yield connection
    finally:
        connection.close()
