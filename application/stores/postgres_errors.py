"""PostgreSQL's errors as ours, each saying what to do."""

from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from eventsourcing.persistence import IntegrityError
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from ...domain.errors import LedgerUnavailable, NotPermitted
from .store import CLOSED, LockHeld, TransientFailure, Unreachable

_ADVICE: dict[type[psycopg.Error], str] = {
    errors.QueryCanceled: " A timeout of the server's ended it, or an administrator did; try again.",
    errors.DiskFull: " Free some space; nothing that was accepted is lost.",
}


class ConnectionLost(TransientFailure):
    """The connection broke: what was not committed is undone, and what was being committed may be done."""


class NoConnection(psycopg.OperationalError):
    """None can be made, tried for as long as is waited for one."""


class TablesGone(LedgerUnavailable):
    """Tables were dropped, or were never made."""


class TooLong(LedgerUnavailable):
    """One value would be longer than any can be."""


class Conflict(TransientFailure):
    """The transaction was undone as it stood in another one's way; trying again settles it."""


@contextmanager
def translated(place: str) -> Generator[None]:
    """Raise what psycopg raises as the library's IntegrityError, NotPermitted or LedgerUnavailable."""
    try:
        yield
    except errors.IntegrityError as error:
        raise IntegrityError(_said(error)) from error
    except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
        raise NotPermitted(
            f"PostgreSQL on {place}: {_said(error)}. The role of this connection may not do that; another one has to.",
        ) from error
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.InvalidSchemaName) as error:
        raise TablesGone(f"PostgreSQL on {place}: {_said(error)}.") from error
    except (errors.DeadlockDetected, errors.SerializationFailure) as error:
        raise Conflict(f"PostgreSQL on {place}: {_said(error)}. Try again.") from error
    except errors.LockNotAvailable as error:
        raise LockHeld(
            f"PostgreSQL on {place}: {_said(error)}. Somebody else held a lock for too long; try again."
        ) from error
    except PoolClosed as error:
        raise LedgerUnavailable(CLOSED) from error
    except NoConnection as error:
        raise Unreachable(f"PostgreSQL on {place}: {_said(error)}.") from error
    except (PoolTimeout, TooManyRequests) as error:
        raise LedgerUnavailable(
            f"PostgreSQL on {place}: {_said(error)}. Try again, or raise max_connections."
        ) from error
    except psycopg.Error as error:
        advice = next((advice for kind, advice in _ADVICE.items() if isinstance(error, kind)), "")
        raise _kind(error)(f"PostgreSQL on {place}: {_said(error)}.{advice}") from error


def _kind(error: psycopg.Error) -> type[LedgerUnavailable]:
    if isinstance(error, errors.ProgramLimitExceeded):
        return TooLong
    return ConnectionLost if is_lost(error) else LedgerUnavailable


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, rather than a statement refused."""
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        state = error.sqlstate
        return state is None or state[:2] == "08" or state in {"57P01", "57P02", "57P03", "57P05", "25P03"}
    return False


def _said(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
