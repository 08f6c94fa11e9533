"""Errors of a ledger: its URL, its file or database, and its projection."""

from .base import Conflict, Corrupted, InvalidRequest, PermissionDenied, Unavailable


class InvalidLedgerUrl(InvalidRequest):
    """A ledger URL is malformed or has an unknown scheme."""

    code = "invalid_ledger_url"


class NotALedger(InvalidRequest):
    """The file exists and is not a Tallybook ledger."""

    code = "not_a_ledger"


class UnsupportedSchemaVersion(Corrupted):
    """A newer version of Tallybook wrote this file."""

    code = "unsupported_schema_version"


class LedgerUnavailable(Unavailable):
    """The ledger cannot be read or written at the moment: locked, read-only, full or missing."""

    code = "ledger_unavailable"


class ClockBehind(Unavailable):
    """The clock of this program is behind the time of the last event in the ledger: nothing is stored."""

    code = "clock_behind"


class DatabasePermissionDenied(PermissionDenied):
    """The database user may not do this: record, project or rebuild."""

    code = "database_permission_denied"
    http_status = 503  # nothing is wrong with the request: the operator has to grant it


class LedgerCorrupted(Corrupted):
    """A stored event is not as it was written and cannot be decoded."""

    code = "ledger_corrupted"


class LedgerNotEmpty(Conflict):
    """The ledger to copy to has events or key-value entries already."""

    code = "ledger_not_empty"


class BackupNotSupported(InvalidRequest):
    """The database of the ledger has its own programs for backups."""

    code = "backup_not_supported"


class CopyNotSupported(InvalidRequest):
    """The ledger has times of recording that decrease, as earlier versions stored them; a new ledger accepts none."""

    code = "copy_not_supported"


class ProjectionStopped(Corrupted):
    """The projection stopped at an event that it cannot fold."""

    code = "projection_stopped"

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message, field="position", value=position)
        self.position = position
