"""SQLite's errors as ours, each saying what to do."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from eventsourcing.persistence import IntegrityError

from ...domain.errors import LedgerUnavailable, NotALedger, TallybookError

LOCK_TIMEOUT_SECONDS = 30

_ADVICE = {
    "locked": f" Another process held it for over {LOCK_TIMEOUT_SECONDS} seconds; try again.",
    "readonly": " The file, one beside it (-wal, -shm) or its folder is read-only for this user.",
    "full": " Free some space; nothing that was accepted is lost.",
    "disk I/O": " The disk may be full, or failing, or a quota reached; nothing that was accepted is lost.",
    "unable to open": " Its folder must exist and be writable.",
    "malformed": " The file is damaged. Read models (.views) can be deleted; restore a ledger from its backup.",
}


@contextmanager
def translated(database: str) -> Generator[None]:
    """Raise what SQLite raises as the library's IntegrityError, NotALedger or LedgerUnavailable."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise IntegrityError(error) from error
    except sqlite3.Error as error:
        raise _refusal(str(error), database) from error


def _refusal(said: str, database: str) -> TallybookError:
    if "not a database" in said:
        return NotALedger(f"The file {database!r} is not a Tallybook ledger: {said}.", field="url", value=database)
    advice = next((advice for sign, advice in _ADVICE.items() if sign in said), "")
    return LedgerUnavailable(f"SQLite on {database!r}: {said}.{advice}", field="url", value=database)
