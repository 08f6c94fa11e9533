"""The screen Import: upload a usage file, see how it would be recorded, then record it."""

from .....domain.access_key import Scope
from ....usage_import.import_tasks import start_import, upload_store
from ....usage_import.options import ImportOptions
from ....usage_import.uploads import Upload
from ...http.errors import ApiError, invalid_parameter
from ..registry import ViewContext, ViewRegistry
from ..responses import FileDownload, Page, Redirect
from ..selection import parse_selection
from ..tasks import task_of_page

views = ViewRegistry()

FORMATS = ("csv", "tsv", "json", "jsonl", "xlsx", "parquet")
TEXT_OPTIONS = (
    "customer_column", "value_column", "timestamp_column", "identifier_column", "timezone", "date_format", "decimal",
    "thousands", "encoding", "delimiter", "sheet", "source",
)  # fmt: skip
"""The fields of the form that are options of the import under the same names."""


@views.get("/import", Scope.RECORD)
def import_page(context: ViewContext) -> Page:
    """Show the form, the progress of a check or an import, or its result."""
    upload = _upload_of_page(context)
    report, options = (None, ImportOptions()) if upload is None else (upload.report, upload.options)
    return Page(
        "import.html",
        {
            "selection": parse_selection(context), "task": task_of_page(context), "upload": upload, "report": report,
            "options": options,
            "formats": [("", "by its name"), *((name, name) for name in FORMATS)],
        },
    )  # fmt: skip


@views.post("/import", Scope.RECORD, takes_file=True)
def check(context: ViewContext) -> Redirect:
    """Store the file, unless it is one that was uploaded before, and check how it would be recorded."""
    metering, uploads = context.metering, upload_store(context.metering)
    if context.file is not None:
        upload = uploads.add(context.file.name, context.file.contents)
    elif upload_id := context.params.optional("upload"):
        upload = uploads.get(upload_id)
    else:
        raise invalid_parameter("file", "Choose a file to import.")
    task = start_import(metering, upload, _options(context), dry_run=True, by=context.user.by)
    return Redirect(context.url("/import", upload=upload.id, task=task.id))


@views.post("/import/record", Scope.RECORD)
def record(context: ViewContext) -> Redirect:
    """Record a file that was checked, with the options of its check."""
    upload = upload_store(context.metering).get(context.params.get("upload"))
    if upload.report is None:
        raise ApiError(409, "The file has not been checked. Check it first.")
    task = start_import(context.metering, upload, upload.options, dry_run=False, by=context.user.by)
    return Redirect(context.url("/import", upload=upload.id, task=task.id))


@views.get("/import/rejected", Scope.RECORD)
def rejected_rows(context: ViewContext) -> FileDownload:
    """Download the rows that were rejected, with the reasons, in the format of the file."""
    uploads = upload_store(context.metering)
    upload = uploads.get(context.params.get("upload"))
    return FileDownload(f"rejected-{upload.file_name.removesuffix('.gz')}", uploads.parts(upload, "rejected"))


def _upload_of_page(context: ViewContext) -> Upload | None:
    upload_id = context.params.optional("upload")
    return None if upload_id is None else upload_store(context.metering).get(upload_id)


def _options(context: ViewContext) -> ImportOptions:
    params = context.params
    given = {name: text for name in TEXT_OPTIONS if (text := params.optional(name)) is not None}
    if given.get("delimiter") == "tab":
        given["delimiter"] = "\t"
    header_row = params.number("header_row", 0) or None
    payload_columns = tuple(text.strip() for text in params.get("payload_columns").split(",") if text.strip())
    return ImportOptions(
        **given, payload_columns=payload_columns, event_name=params.optional("event_name"),
        format=params.optional("format"), header_row=header_row,
    )  # fmt: skip
