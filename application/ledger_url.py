"""Where a ledger is: its URL."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from uuid_utils import uuid7

from ..domain.errors import InvalidLedgerUrl
from .stores.sqlite_store import SQLiteStore

_EXAMPLES = (
    "'sqlite:///usage.db' (a file here), 'sqlite:////var/lib/usage.db' (an absolute path) or 'sqlite://' (in memory)"
)


def locate(url: str) -> SQLiteStore:
    """The databases behind a ledger URL. Raises InvalidLedgerUrl."""
    try:
        parts = urlsplit(str(url))
    except ValueError as error:
        raise InvalidLedgerUrl(f"A ledger URL is one of {_EXAMPLES}, not {url!r}.", field="url", value=url) from error
    if parts.scheme != "sqlite" or "\0" in unquote(url):
        raise InvalidLedgerUrl(f"A ledger URL is one of {_EXAMPLES}, not {url!r}.", field="url", value=url)
    if parts.netloc or parts.query or parts.fragment:
        raise InvalidLedgerUrl(
            f"{url!r} has more than a scheme and a path. Use {_EXAMPLES}; write '?' and '#' in a path as %3F and %23.",
            field="url",
            value=url,
        )
    path = unquote(parts.path.removeprefix("/"))
    if path in ("", ":memory:"):
        return SQLiteStore(*(f"file:{uuid7()}?mode=memory&cache=shared" for _ in range(2)))
    file = Path(path).absolute()
    if file.is_dir():
        raise InvalidLedgerUrl(f"{str(file)!r} is a folder; a ledger is a file in one.", field="url", value=url)
    return SQLiteStore(str(file), f"{file}.views")
