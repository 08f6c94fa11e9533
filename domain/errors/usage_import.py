"""Errors of importing usage from files."""

from .base import InvalidRequest, NotFound


class InvalidImportFile(InvalidRequest):
    """A file to import has another format than its name says, lacks a column, or can be read in several ways."""

    code = "invalid_import_file"


class ImportRunNotFound(NotFound):
    """No import has this id."""

    code = "import_run_not_found"
