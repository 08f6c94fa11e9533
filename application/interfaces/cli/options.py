"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_LEDGER = "sqlite:///tallybook.db"

LedgerOption = Annotated[
    str,
    typer.Option(
        "--ledger",
        envvar="TALLYBOOK_LEDGER",
        metavar="URL",
        help="The ledger: sqlite:///a/file.db, or sqlite:////an/absolute/file.db, or postgresql://user@host/database.",
    ),
]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV, with the columns of the JSON.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result, or the error, as one JSON document.")]

MetersArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="METER...", help="The meters' event names. All meters by default.", show_default=False),
]
MeterArgument = Annotated[str, typer.Argument(metavar="METER", help="The meter's event name.", show_default=False)]
OptionalMeterArgument = Annotated[
    str | None,
    typer.Argument(metavar="METER", help="The meter's event name. All meters by default.", show_default=False),
]
CustomerArgument = Annotated[
    str | None,
    typer.Argument(metavar="CUSTOMER", help="The customer. All customers together by default.", show_default=False),
]

PeriodOption = Annotated[
    str | None,
    typer.Option(
        "--period",
        "-p",
        metavar="PERIOD",
        help="A month (2026-11), a day (2026-11-22) or a year (2026). The current month by default.",
    ),
]
SelectedPeriodOption = Annotated[
    str | None,
    typer.Option(
        "--period",
        "-p",
        metavar="PERIOD",
        help="Of this month (2026-11), day (2026-11-22) or year (2026) only. Any time by default.",
    ),
]
ClosedPeriodOption = Annotated[
    str | None,
    typer.Option("--period", "-p", metavar="PERIOD", help="A month (2026-11), a day (2026-11-22) or a year (2026)."),
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="TIME", help="The start, inclusive: an ISO date or datetime. It needs --to as well."
    ),
]
ToOption = Annotated[str | None, typer.Option("--to", metavar="TIME", help="The end, exclusive.")]
TimezoneOption = Annotated[
    str,
    typer.Option("--timezone", "-z", metavar="ZONE", help="The timezone of days and local times, like Europe/Berlin."),
]
AnchorOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="The start of a billing cycle, like 2026-01-17T10:32. Selects its period that starts in --period.",
    ),
]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="TIME|POSITION",
        help="Show what was known then: at an ISO datetime, or at a position of the ledger.",
    ),
]
BackfillOption = Annotated[
    bool, typer.Option("--backfill", help="Accept meter events of any age, not only of the last 35 days.")
]
AnyDigitsOption = Annotated[
    bool, typer.Option("--any-digits", help="Accept values of any number of digits, not only of 15 significant digits.")
]
AnyAgeOption = Annotated[
    bool,
    typer.Option("--any-age", help="Lift the limit of 24 hours for cancelling, and for revoking a cancellation."),
]
OnBehalfOfOption = Annotated[
    str | None,
    typer.Option(
        "--on-behalf-of", metavar="NAME", help="For whom you do this. The ledger stores it with your user name."
    ),
]
DifferenceLimitOption = Annotated[
    int, typer.Option("--limit", "-n", min=0, metavar="NUMBER", help="The maximum number of differences to show.")
]
EffectiveFromOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="Change the rules for usage from then on: an ISO date or datetime. All usage by default."
    ),
]
DigestOption = Annotated[
    str | None, typer.Option(metavar="DIGEST", help="Make the change only if the difference still has this digest.")
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="KEY=VALUE",
        help="Select usage with this dimension value. Repeatable; of the same key, any of the values.",
    ),
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option(
        "--without",
        metavar="KEY",
        help="Select usage without this optional dimension. Repeatable; with --where of the same key, either matches.",
    ),
]
DestinationArgument = Annotated[
    str, typer.Argument(metavar="DEST", help="A folder, or the URL of an object store, like s3://bucket/prefix.")
]
GroupByOption = Annotated[
    list[str] | None,
    typer.Option("--group-by", metavar="KEY", help="Show the parts by the values of this dimension. Repeatable."),
]
VerifyCheckpointsOption = Annotated[
    Path | None, typer.Option("--checkpoints", metavar="FILE", help="Verify the ledger against this checkpoint file.")
]
PublicKeyOption = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="The public key of the required signature, or a file that holds it."),
]
