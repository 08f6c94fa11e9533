"""Errors of reading usage from files, object stores and topics."""

from .base import Conflict, InvalidRequest, NotFound, Unavailable


class InvalidImportFile(InvalidRequest):
    """A file to import has another format than its name says, lacks a column, or can be read in several ways."""

    code = "invalid_import_file"


class ImportRunNotFound(NotFound):
    """No import has this id."""

    code = "import_run_not_found"


class TooManyUploads(Conflict):
    """Too many usage files of others are uploaded. They are deleted after a day."""

    code = "too_many_uploads"


class InvalidUsageSource(InvalidRequest):
    """The URL of an object store, or the settings of a topic, can't be used."""

    code = "invalid_usage_source"


class UsageSourceUnavailable(Unavailable):
    """An object store, a broker or a file can't be read at the moment: no permission, object, connection or process."""

    code = "usage_source_unavailable"
