"""Ledger URLs, and the store that each names."""

import errno
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ...domain.errors import InvalidLedgerUrl
from ...domain.text import abbreviated_repr
from ..redaction import redact_invalid_url
from ..uuid7 import uuid7
from .ports import Store
from .postgres.settings import SCHEMES, PostgresSettings
from .sqlite.database_files import READ_MODELS_SUFFIX
from .sqlite.store import SQLiteStore

_EXAMPLES = (
    "'sqlite:///usage.db' (a file here), 'sqlite:////var/lib/usage.db' (an absolute path), 'sqlite://' (in memory) or "
    "'postgresql://user@host/database'"
)

_REMOVED_CHARACTERS = "\t\r\n"
"""The characters that `urlsplit` removes, so that the URL would be that of another file."""
_LONGEST_SUFFIX = ".read-models.scratch-12345678"
"""Of the files next to a ledger a temporary directory has the longest name."""


def resolve_store(url: str | PostgresSettings) -> Store:
    """Return the store of a ledger URL or of settings. Raise InvalidLedgerUrl."""
    if isinstance(url, PostgresSettings):
        return _on_postgres(url)
    if str(url).partition(":")[0] in SCHEMES:
        return _on_postgres(PostgresSettings.parse(url))
    return _on_sqlite(url)


def _on_postgres(settings: PostgresSettings) -> Store:
    try:
        from .postgres.store import PostgresStore  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidLedgerUrl(
            f"A PostgreSQL ledger needs additional packages ({error}): pip install 'tallybook[postgres]'.", field="url"
        ) from error
    return PostgresStore.create(settings)


def _on_sqlite(url: str) -> SQLiteStore:
    try:
        parts = urlsplit(str(url))
    except ValueError:
        raise _unknown(url) from None  # the error may contain the URL
    if parts.scheme != "sqlite" or "\0" in unquote(url):
        raise _unknown(url)
    if set(_REMOVED_CHARACTERS) & set(url):
        raise InvalidLedgerUrl(
            f"The URL {redact_invalid_url(url)!r} contains a line break or a tab; write them in a path as %0A, %0D and "
            "%09.",
            field="url",
            value=redact_invalid_url(url),
        )
    if parts.netloc or parts.query or parts.fragment:
        shown = redact_invalid_url(url)
        raise InvalidLedgerUrl(
            f"{shown!r} has more than a scheme and a path. Use {_EXAMPLES}; write '?' and '#' in a path as %3F and "
            "%23.",
            field="url",
            value=shown,
        )
    path = unquote(parts.path.removeprefix("/"))
    if path in ("", ":memory:"):
        return SQLiteStore(*(f"file:{uuid7()}?mode=memory&cache=shared" for _ in range(2)))
    file = Path(path).absolute()
    _check_path(file, url)
    if file.is_dir():
        raise InvalidLedgerUrl(f"{str(file)!r} is a folder; a ledger is a file in one.", field="url", value=url)
    return SQLiteStore(str(file), f"{file}{READ_MODELS_SUFFIX}")


def _check_path(file: Path, url: str) -> None:
    """Raise InvalidLedgerUrl if the file system can't have a file at this path, or those that are put next to it."""
    if ".." in file.parts and not file.parent.exists():  # SQLite would remove '..' and the name before it
        raise InvalidLedgerUrl(f"The folder {str(file.parent)!r} does not exist.", field="url", value=url)
    try:
        Path(f"{file}{_LONGEST_SUFFIX}").stat()
    except ValueError:  # a character that can't be encoded
        raise _unknown(url) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InvalidLedgerUrl(
                f"The path {abbreviated_repr(str(file))} is too long. Files next to the ledger have names that are "
                f"{len(_LONGEST_SUFFIX)} bytes longer; choose a shorter one.",
                field="url",
                value=url,
            ) from None


def _unknown(url: str) -> InvalidLedgerUrl:
    shown = redact_invalid_url(str(url))
    return InvalidLedgerUrl(f"A ledger URL is one of {_EXAMPLES}, not {shown!r}.", field="url", value=shown)
