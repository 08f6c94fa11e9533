"""Errors about the parameters of libpq in settings and ledger URLs, without what may be a part of a password."""

from psycopg.pq import Conninfo

from ....domain.errors import TallybookError
from ...similar_names import suggest_names
from .settings import PostgresSettings, invalid_url

_ENCODING_HINT = (
    "in a user, a password, a database and a parameter, write '%' as %25, '@' as %40, '/' as %2F, ':' as %3A, '?' as "
    "%3F, '#' as %23, '&' as %26 and '[' as %5B"
)


def require_known_parameters(settings: PostgresSettings) -> None:
    """Raise InvalidLedgerUrl if the settings have a parameter that libpq does not have."""
    known = _known_parameters()
    for name in settings.parameters:
        if name not in known:
            suggestion = suggest_names("parameters", name, known).rstrip(".")
            raise invalid_url(
                f"libpq has no parameter {name!r}.{suggestion}" if suggestion else f"no parameter {name!r}"
            )


def require_valid_port(port: object) -> None:
    """Raise InvalidLedgerUrl if a port, or one of several, is not a number: it may be a password without a host."""
    if not set(str(port)) <= set("0123456789,"):
        raise invalid_url(f"the port is not a number; {_ENCODING_HINT}")


def unparsable_url(url: str) -> TallybookError:
    """Return the error for a URL that libpq cannot parse.

    The name of an unknown parameter may be a part of a password. Only names that are similar to it are shown.
    """
    known = _known_parameters()
    query = url.rpartition("?")[2] if "?" in url else ""
    for name in (parameter.partition("=")[0] for parameter in query.split("&")):
        suggestion = "" if name in known else suggest_names("parameters", name, known)
        if suggestion:
            return invalid_url(f"it has an unknown parameter.{suggestion.rstrip('.')}")
    return invalid_url(f"it cannot be parsed; {_ENCODING_HINT}")


def _known_parameters() -> list[str]:
    return [option.keyword.decode() for option in Conninfo.get_defaults()]
