"""Translation of SQLite's errors to Tallybook's errors."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from eventsourcing.persistence import IntegrityError

from ....domain.errors import LedgerUnavailable, NotALedger, TallybookError

LOCK_TIMEOUT_SECONDS = 30

_MALFORMED = " The file is corrupted. Read models (.read-models) can be deleted; restore a ledger from its backup."
MALFORMED_SCHEMA = f"its schema is not text.{_MALFORMED}"
_HINTS = {
    "locked": f" Another process held it for over {LOCK_TIMEOUT_SECONDS} seconds; try again.",
    "readonly": " The file, its -wal or -shm file, or its folder is read-only for this user.",
    "full": " Free some space; no accepted data is lost.",
    "disk I/O": " The disk may be full or failing, or a quota reached; no accepted data is lost.",
    "unable to open": " Its folder must exist and be writable.",
    "malformed": _MALFORMED,
}


@contextmanager
def translate_errors(database: str) -> Generator[None]:
    """Translate SQLite's errors to the library's IntegrityError, NotALedger or LedgerUnavailable."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise IntegrityError(error) from error
    except sqlite3.Error as error:
        raise _to_error(str(error), database) from error


def unavailable(database: str, reason: str) -> LedgerUnavailable:
    """Return the error for a database that cannot be used."""
    return LedgerUnavailable(f"SQLite on {database!r}: {reason}", field="url", value=database)


def _to_error(message: str, database: str) -> TallybookError:
    if "not a database" in message:
        return NotALedger(f"The file {database!r} is not a Tallybook ledger: {message}.", field="url", value=database)
    hint = next((hint for pattern, hint in _HINTS.items() if pattern in message), "")
    return unavailable(database, f"{message}.{hint}")
