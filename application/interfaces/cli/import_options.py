"""The options of the command `import`."""

from pathlib import Path
from typing import Annotated

import typer

FileArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE",
        help="CSV, TSV, JSON (a list), JSONL, xlsx or Parquet, also compressed with gzip; - is standard input. Or the "
        "URL of an object store, such as s3://bucket/prefix: all objects below it.",
        show_default=False,
    ),
]
EventNameOption = Annotated[
    str | None, typer.Option(metavar="METER", help="The meter of all rows. Overrides the column event_name.")
]
TimestampColumnOption = Annotated[str, typer.Option(metavar="COLUMN", help="The column of the timestamps.")]
TimestampFormatOption = Annotated[
    str,
    typer.Option(
        metavar="FORMAT",
        help="auto (ISO dates and datetimes, Unix seconds of ten digits), unix-seconds, unix-milliseconds, "
        "unix-microseconds, compact-date (20260301) or spreadsheet-days (46082.5).",
    ),
]
DateFormatOption = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT", help="The form of dates that are not ISO: DD.MM.YYYY, MM/DD/YYYY or 'DD/MM/YYYY HH:mm:ss'."
    ),
]
ImportTimezoneOption = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        "-z",
        metavar="ZONE",
        help="The timezone of local times and dates, like Europe/Berlin. Local times are rejected without it.",
    ),
]
ValueColumnOption = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The column to store under the meter's value key.")
]
DecimalOption = Annotated[
    str | None, typer.Option(metavar="MARK", help="The decimal mark of values: . or , (a point by default).")
]
ThousandsOption = Annotated[
    str | None, typer.Option(metavar="MARK", help="The mark between groups of three digits: . or , or ' or a space.")
]
CustomerColumnOption = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The column to store under the meter's customer key.")
]
CustomerOption = Annotated[str | None, typer.Option("--customer", metavar="CUSTOMER", help="The customer of all rows.")]
IdentifierColumnOption = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="The identifier. By default 'identifier' if the file has it.")
]
SourceOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Where the rows come from, if they have no identifiers: equal rows of two sources are different usage.",
    ),
]
PayloadColumnOption = Annotated[
    list[str] | None,
    typer.Option("--payload-column", metavar="COLUMN[=KEY]", help="A column to store in the payload. Repeatable."),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="csv, tsv, json, jsonl, xlsx or parquet. By default from the file's contents and suffix.",
    ),
]
EncodingOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The encoding of text, like windows-1252. UTF-8 by default.")
]
DelimiterOption = Annotated[
    str | None, typer.Option(metavar="MARK", help="What separates the cells of CSV. By default from the file.")
]
HeaderRowOption = Annotated[
    int | None, typer.Option(metavar="LINE", help="The line with the names of the columns, if lines are above it.")
]
SheetOption = Annotated[str | None, typer.Option(metavar="NAME", help="The sheet of a spreadsheet with several.")]
PrefixOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Put this before each identifier of the file, as for a corrected file after the first was undone.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show how the rows would be recorded, and record nothing.")
]
ErrorsOption = Annotated[
    Path | None,
    typer.Option(
        "--errors", metavar="FILE", help="Write the rows that are not recorded to FILE, to correct and import again."
    ),
]
EveryOption = Annotated[
    str | None,
    typer.Option(
        metavar="INTERVAL",
        help="With a URL: import new objects again and again, such as every 30s, 15m or 1h, until Ctrl-C or SIGTERM.",
    ),
]
RetryOption = Annotated[
    bool,
    typer.Option("--retry", help="With a URL: read the objects again that failed, or of which rows were not recorded."),
]
MaxBytesOption = Annotated[
    int, typer.Option("--max-bytes", min=1, metavar="BYTES", help="With a URL: the most that an object may unpack to.")
]
MaxRowsOption = Annotated[
    int, typer.Option("--max-rows", min=1, metavar="ROWS", help="With a URL: the most rows that an object may have.")
]
DEFAULT_MAX_BYTES, DEFAULT_MAX_ROWS = 16 << 30, 200_000_000
