"""Errors of the ledger archive."""

from .base import Conflict, Corrupted, InvalidRequest, Unavailable


class InvalidArchive(InvalidRequest):
    """There is no archive at the destination, or nothing can be stored there."""

    code = "invalid_archive"


class ArchiveInUse(Conflict):
    """Another process is exporting to the archive."""

    code = "archive_in_use"


class ArchiveUnavailable(Unavailable):
    """A file of the archive can't be read or written at the moment: no permission, no space or no connection."""

    code = "archive_unavailable"


class ArchiveMismatch(Corrupted):
    """The archive was changed, or contains other events than the ledger."""

    code = "archive_mismatch"
