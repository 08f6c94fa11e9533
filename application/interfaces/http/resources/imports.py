"""Imports of usage files: upload a file and check it, then record it; tasks that any process of the server shows."""

import base64
import binascii
from io import BytesIO
from itertools import islice
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from .....domain.access_key import Scope
from .....domain.errors import InvalidParameter
from ....usage_import.import_tasks import start_import, upload_store
from ....usage_import.options import ImportOptions, ImportReport
from ....usage_import.uploads import Upload, UploadStore
from ..api_types import Id, Name, Parameters, to_unix
from ..errors import ApiError, invalid_parameter, missing_object
from ..ledgers import RequestContext
from ..operations import OperationRegistry
from .tasks import TaskObject, task_object

URL = "/v1/billing/imports"
operations = OperationRegistry("Imports")
_Text = Annotated[str, Meta(min_length=1, max_length=200)]


class ImportedRow(msgspec.Struct, kw_only=True):
    """One of the first rows of a file, as it is recorded."""

    event_name: str
    identifier: str | None
    line: int
    payload: dict[str, str]
    timestamp: int


class RejectedImportRow(msgspec.Struct, kw_only=True):
    """One of the first rows that are not recorded, and why."""

    code: str
    identifier: str | None
    line: int
    message: str
    outcome: Literal["conflict", "rejected"]


class ImportDialect(msgspec.Struct, kw_only=True):
    """How a file is read; what does not apply is null. `header_line` has the names of the columns."""

    compression: str | None
    delimiter: str | None
    encoding: str | None
    format: str
    header_line: int | None
    sheet: str | None


class UsageImport(msgspec.Struct, kw_only=True):
    """An uploaded file, and what its last check or import has found: its rows by outcome, and the first of them.

    With `dry_run`, nothing was recorded. `import_run` is the id of the import, by which it can be undone.
    `has_rejected_rows` tells whether there is a file of the rows that were not recorded: none of more than 48 MiB.
    """

    id: str
    object: Literal["billing.usage_import"] = "billing.usage_import"
    accepted: int
    conflict: int
    dialect: ImportDialect
    dry_run: bool
    duplicate: int
    file_name: str
    first_rejected: list[RejectedImportRow]
    first_rows: list[ImportedRow]
    has_rejected_rows: bool
    import_run: str | None
    livemode: bool
    rejected: int
    rows: int


class RejectedRowsPart(msgspec.Struct, kw_only=True):
    """A part of the file with the rejected rows, in the format of the uploaded file. The next one is `part` + 1."""

    object: Literal["billing.rejected_rows"] = "billing.rejected_rows"
    contents_base64: str
    file_name: str
    has_more: bool
    part: int


class ImportFile(Parameters, kw_only=True):
    """A file, as `contents` or in `contents_base64`, or an `upload` of before; and how to read it.

    With `dry_run` its rows are only checked. The other parameters are the options of `tallybook import`; an upload that
    was checked is read as then if none is given.
    """

    contents: Annotated[str, Meta(min_length=1)] | None = None
    contents_base64: Annotated[str, Meta(min_length=1)] | None = None
    customer: _Text | None = None
    customer_column: _Text | None = None
    date_format: _Text | None = None
    decimal: _Text | None = None
    delimiter: _Text | None = None
    dry_run: bool = False
    encoding: _Text | None = None
    event_name: Name | None = None
    file_name: _Text | None = None
    format: _Text | None = None
    header_row: Annotated[int, Meta(ge=1)] | None = None
    identifier_column: _Text | None = None
    payload_columns: Annotated[tuple[_Text, ...], Meta(max_length=100)] = ()
    sheet: _Text | None = None
    source: Annotated[str, Meta(max_length=200)] = ""
    thousands: _Text | None = None
    timestamp_column: _Text = "timestamp"
    timestamp_format: _Text = "auto"
    timezone: _Text | None = None
    upload: Id | None = None
    value_column: _Text | None = None


class RetrieveRejectedRows(Parameters, kw_only=True):
    """Which part of the file to return, from 0."""

    part: Annotated[int, Meta(ge=0, le=1_000)] = 0


@operations.post(URL, Scope.RECORD, has_file=True)
def start_usage_import(context: RequestContext[ImportFile]) -> TaskObject:
    """Upload a usage file, and start a task that imports it, or only checks it.

    The result of the task has the id of the upload, whose report can be retrieved. Importing a file again records
    nothing twice. One task of a type runs at a time on a ledger. Uploads are deleted after a day.
    """
    params, ledger = context.params, context.ledger
    uploads = upload_store(ledger.metering)
    upload = _add(params, uploads) if params.upload is None else _find(uploads, params.upload)
    options = ImportOptions(**{name: getattr(params, name) for name in ImportOptions.__struct_fields__})
    if options == ImportOptions():
        options = upload.options
    by = context.access_key.hint
    task = start_import(ledger.metering, upload, options, dry_run=params.dry_run, by=by)
    return task_object(task, ledger.livemode)


@operations.get(URL + "/{id}")
def retrieve_usage_import(context: RequestContext[Parameters]) -> UsageImport:
    """Retrieve what the last check or import of an upload has found."""
    upload = _find(upload_store(context.ledger.metering), context.path_parameters["id"])
    if upload.report is None:
        raise missing_object("import", upload.id)
    return _to_object(upload, upload.report, context.ledger.livemode)


@operations.get(URL + "/{id}/rejected_rows")
def retrieve_rejected_rows(context: RequestContext[RetrieveRejectedRows]) -> RejectedRowsPart:
    """Retrieve a part of the file with all rows that were not recorded, each with the reason, to mend and import."""
    uploads, number = upload_store(context.ledger.metering), context.params.part
    upload = _find(uploads, context.path_parameters["id"])
    parts = list(islice(uploads.parts(upload, "rejected"), number, number + 2))
    if not parts:
        raise ApiError(404, f"The rejected rows have no part {number}.", code="resource_missing", param="part")
    return RejectedRowsPart(
        contents_base64=base64.b64encode(parts[0]).decode(), file_name=f"rejected-{upload.file_name}",
        has_more=len(parts) > 1, part=number,
    )  # fmt: skip


def _add(params: ImportFile, uploads: UploadStore) -> Upload:
    if (params.contents is None) == (params.contents_base64 is None):
        raise invalid_parameter("contents", "Send contents, contents_base64 or upload.", "parameter_missing")
    if params.file_name is None:
        message = "Send the name of the file as file_name, whose suffix tells the format."
        raise invalid_parameter("file_name", message, "parameter_missing")
    try:
        contents = (
            params.contents.encode()
            if params.contents is not None
            else base64.b64decode(params.contents_base64 or "", validate=True)
        )
    except binascii.Error:
        raise invalid_parameter("contents_base64", "contents_base64 is not valid.") from None
    return uploads.add(params.file_name, BytesIO(contents))


def _find(uploads: UploadStore, upload_id: str) -> Upload:
    try:
        return uploads.get(upload_id)
    except InvalidParameter:
        raise missing_object("import", upload_id) from None


def _to_object(upload: Upload, report: ImportReport, livemode: bool) -> UsageImport:
    dialect = report.dialect
    return UsageImport(
        id=upload.id, accepted=report.accepted, conflict=report.conflict,
        dialect=ImportDialect(
            compression=dialect.compression, delimiter=dialect.delimiter, encoding=dialect.encoding,
            format=dialect.file_format.value, header_line=dialect.header_line, sheet=dialect.sheet,
        ),
        dry_run=report.dry_run, duplicate=report.duplicate, file_name=upload.file_name,
        first_rejected=[
            RejectedImportRow(
                code=row.code, identifier=row.identifier, line=row.line, message=row.message,
                outcome="conflict" if row.outcome == "conflict" else "rejected",
            )
            for row in report.first_rejected
        ],
        first_rows=[
            ImportedRow(
                event_name=row.event_name, identifier=row.identifier, line=row.line, payload=row.payload,
                timestamp=to_unix(row.timestamp),
            )
            for row in report.first_rows
        ],
        has_rejected_rows=upload.rejected_bytes > 0, import_run=report.import_run, livemode=livemode,
        rejected=report.rejected, rows=report.rows,
    )  # fmt: skip
