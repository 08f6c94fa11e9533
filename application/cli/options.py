"""The arguments and options that commands share, each said once."""

from typing import Annotated

import typer

DEFAULT_LEDGER = "sqlite:///tallybook.db"

Ledger = Annotated[
    str,
    typer.Option(
        "--ledger",
        envvar="TALLYBOOK_LEDGER",
        metavar="URL",
        help="The ledger: sqlite:///a/file.db, or sqlite:////an/absolute/file.db, or postgresql://user@host/database.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON document; refuse with one too.")]

Meter = Annotated[str, typer.Argument(metavar="METER", help="The meter's event name.", show_default=False)]
Customer = Annotated[
    str | None,
    typer.Argument(metavar="CUSTOMER", help="The customer; all of them together where left out.", show_default=False),
]

Period = Annotated[
    str | None,
    typer.Option(
        "--period",
        "-p",
        metavar="PERIOD",
        help="A month (2026-11), a day (2026-11-22) or a year (2026). The current month where no time is given.",
    ),
]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="The start, included: an ISO date or datetime. Goes with --to."),
]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="The end, not included.")]
Timezone = Annotated[
    str, typer.Option("--timezone", "-z", metavar="ZONE", help="Whose days and clocks, like Europe/Berlin.")
]
Anchor = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="When a billing cycle began, like 2026-01-17T10:32: its period that begins in --period is meant.",
    ),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of", metavar="TIME|POSITION", help="What was known then: an ISO datetime, or a position in the ledger."
    ),
]
Backfill = Annotated[bool, typer.Option("--backfill", help="Accept uses of any age, not of the last 35 days only.")]
By = Annotated[str | None, typer.Option(metavar="TEXT", help="Who asks for it.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=0, metavar="NUMBER", help="Show so many differences.")]
