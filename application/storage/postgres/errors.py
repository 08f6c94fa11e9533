"""Translation of PostgreSQL's errors to Tallybook's errors."""

from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from eventsourcing.persistence import IntegrityError
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from ....domain.errors import DatabasePermissionDenied, LedgerCorrupted, LedgerUnavailable
from ...redaction import redact
from ..ports import LEDGER_CLOSED, ConnectTimeout, LockTimeout, RowRejected, TransientError

_HINTS: dict[type[psycopg.Error], str] = {
    errors.QueryCanceled: " A server timeout or an administrator cancelled the statement; try again.",
    errors.DiskFull: " Free some space; no accepted data is lost.",
    errors.ReadOnlySqlTransaction: " The server accepts no changes: it is a standby, a failover is in progress, or"
    " 'default_transaction_read_only' is on. Try again, or connect to the primary.",
}

_STARTING_MESSAGES = (
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is in recovery mode",
    "the database system is not accepting connections",
    "the database system is not yet accepting connections",
)
"""PostgreSQL's messages for SQLSTATE 57P03, if its messages are in English."""
_LOCK_HINT = "Another client held a lock for too long; try again."


class ConnectionLost(TransientError):
    """The connection was lost: an open transaction was rolled back, but a commit in progress may have succeeded."""


class ConnectFailed(psycopg.OperationalError):
    """No connection could be opened within the timeout."""


class ReadOnlyServer(TransientError):
    """The server accepts no changes: it is a standby, or a failover is in progress."""


class TablesMissing(LedgerUnavailable):
    """Tables were dropped or were never created."""


class ValueTooLong(LedgerUnavailable):
    """A value would exceed the maximum size of a value."""


class RejectedData(LedgerCorrupted):
    """The server could not convert a value, of an event to store or of a stored row. A retry fails again."""


class SerializationConflict(TransientError):
    """The transaction was rolled back because it conflicted with another one. A retry succeeds."""


@contextmanager
def translate_errors(location: str) -> Generator[None]:
    """Translate psycopg's errors to Tallybook's errors, or to the library's IntegrityError."""
    try:
        yield
    except errors.IntegrityError as error:
        raise IntegrityError(describe(error)) from error
    except errors.InsufficientPrivilege as error:
        raise (DatabasePermissionDenied if _lacks_privilege(error) else RowRejected)(
            f"PostgreSQL on {location}: {describe(error)}. The role of this connection lacks the permission; use "
            "another role.",
        ) from error
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName) as error:
        raise TablesMissing(f"PostgreSQL on {location}: {describe(error)}.") from error
    except (errors.DeadlockDetected, errors.SerializationFailure) as error:
        raise SerializationConflict(f"PostgreSQL on {location}: {describe(error)}. Try again.") from error
    except errors.LockNotAvailable as error:
        raise lock_timeout_error(location, error, "") from error
    except PoolClosed as error:
        raise LedgerUnavailable(LEDGER_CLOSED) from error
    except ConnectFailed as error:
        raise ConnectTimeout(f"PostgreSQL on {location}: {describe(error)}.") from error
    except (PoolTimeout, TooManyRequests) as error:
        raise LedgerUnavailable(
            f"PostgreSQL on {location}: {describe(error)}. Try again, or raise max_connections."
        ) from error
    except psycopg.Error as error:
        hint = next((hint for error_class, hint in _HINTS.items() if isinstance(error, error_class)), "")
        raise _error_class(error)(f"PostgreSQL on {location}: {describe(error)}.{hint}") from error


def _lacks_privilege(error: errors.InsufficientPrivilege) -> bool:
    """Return whether the role lacks the privilege for a table or another object, whatever the rows are.

    Violated policies have the same SQLSTATE. Messages can be translated, but names of functions of the server are not.
    """
    return (error.diag.source_function or "").startswith("aclcheck_error")


def _error_class(error: psycopg.Error) -> type[LedgerUnavailable | LedgerCorrupted]:
    if isinstance(error, psycopg.DataError):
        return RejectedData
    if isinstance(error, errors.ProgramLimitExceeded):
        return ValueTooLong
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return ReadOnlyServer
    return ConnectionLost if is_connection_lost(error) else LedgerUnavailable


def is_connection_lost(error: psycopg.Error) -> bool:
    """Return whether the connection is lost, and not only a statement rejected."""
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        state = error.sqlstate
        return state is None or state[:2] == "08" or state in {"57P01", "57P02", "57P03", "57P05", "25P03"}
    return False


def is_read_only(error: BaseException) -> bool:
    """Return whether a server rejected a change because it is read-only."""
    return isinstance(error, (errors.ReadOnlySqlTransaction, ReadOnlyServer))


def is_lock_timeout(error: BaseException) -> bool:
    """Return whether a statement waited too long for a lock."""
    return isinstance(error, (errors.LockNotAvailable, LockTimeout))


def lock_timeout_error(location: str, error: BaseException, holders: str) -> LockTimeout:
    """Return the error for a statement that waited too long for a lock; `holders` describes who holds it."""
    return LockTimeout(f"PostgreSQL on {location}: {describe(error)}. {holders or _LOCK_HINT}")


def describe(error: BaseException) -> str:
    """Return the message of an error on one line, without a full stop."""
    return redact(" ".join(str(error).split()) or type(error).__name__).rstrip(".")


def is_starting(error: psycopg.OperationalError) -> bool:
    """Return whether a server rejected a connection because it is starting, shutting down or recovering.

    libpq returns no SQLSTATE for a rejected connection. PQping, which returns this state, blocks all threads.
    """
    return any(message in str(error) for message in _STARTING_MESSAGES)
