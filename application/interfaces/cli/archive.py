"""The `archive` commands: export a ledger to Parquet files, and verify them."""

import re
import signal
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import archive_output, archive_pruning, archive_sql, archive_totals
from .options import DEFAULT_LEDGER, DestinationArgument, JsonOption, LedgerOption, MeterArgument, PublicKeyOption
from .session import confirm_result, print_error, print_result, reported_errors, require_ledger
from .terminal import progress_bar, say

if TYPE_CHECKING:
    from ...archive.results import ArchiveExport
    from ...archive.service import ArchiveService

app = typer.Typer(
    help="Export a ledger for other engines, and the rules as SQL.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EveryOption = Annotated[
    str | None,
    typer.Option(metavar="INTERVAL", help="Export again after each interval, like 30s, 15m or 1h, until Ctrl-C."),
]
CheckpointsOption = Annotated[
    Path | None, typer.Option("--checkpoints", metavar="FILE", help="Verify the archive against this checkpoint file.")
]
IcebergOption = Annotated[str, typer.Option("--iceberg", metavar="CATALOG", help="The name of the Iceberg catalog.")]
TableOption = Annotated[str, typer.Option(metavar="TABLE", help="The namespace and the name of the table.")]
AgainstLedgerOption = Annotated[
    bool, typer.Option("--against-ledger", help="Compare each event with that of the ledger too.")
]


def export(
    destination: DestinationArgument,
    every: EveryOption = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Add all events that are not archived yet to an archive.

    The archive is a folder of Parquet files and a manifest, which DuckDB, Spark, polars and others read. An export can
    be interrupted at any time: the next one continues, and no event is archived twice.
    """
    interval_seconds = None if every is None else _parse_interval(every)
    with reported_errors(as_json=as_json), _open_service(ledger) as service:
        if interval_seconds is None:
            confirm_result(_export(service, destination), archive_output.show_export, as_json=as_json)
        else:
            _export_every(service, destination, interval_seconds, as_json)


def verify(
    destination: DestinationArgument,
    checkpoints: CheckpointsOption = None,
    key: PublicKeyOption = None,
    against_ledger: AgainstLedgerOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Verify the manifest, files and rows of an archive.

    Each file must have the SHA-256 and each row the hash that the manifest has for it, and the columns must be what the
    stored events say. This needs no ledger. The exit status is 1 if anything differs; the output names the file and the
    positions.
    """
    if key is not None and checkpoints is None:
        raise typer.BadParameter("A key needs --checkpoints.", param_hint="'--key'")
    with reported_errors(as_json=as_json), progress_bar("verifying") as advance:
        if against_ledger:
            with _open_service(ledger) as service:
                verification = service.verify(destination, checkpoints=checkpoints, key=key, progress=advance)
        else:
            from ...archives import Archive  # noqa: PLC0415 - loads the domain

            verification = Archive.open(destination).verify(checkpoints=checkpoints, key=key, progress=advance)
    print_result(verification, archive_output.show_verification, as_json=as_json)
    if verification.differences:
        raise typer.Exit(1)


def register(
    destination: DestinationArgument,
    iceberg: IcebergOption,
    table: TableOption = "tallybook.events",
    as_json: JsonOption = False,
) -> None:
    """Make an archive an Iceberg table, without rewriting a file.

    Run it after each export: it adds the new segments to the table. The catalog is one of pyiceberg's configuration,
    such as ~/.pyiceberg.yaml or the variables PYICEBERG_CATALOG__NAME__URI. It needs the extra 'iceberg'.
    """
    with reported_errors(as_json=as_json):
        from ...archives import Archive  # noqa: PLC0415 - loads the domain

        registration = Archive.open(destination).register_iceberg(iceberg, table)
    confirm_result(registration, archive_output.show_registration, as_json=as_json)


def materialize(meter: MeterArgument, destination: DestinationArgument, as_json: JsonOption = False) -> None:
    """Write the usage of a meter as numbers, for fast totals.

    There is a file for each segment that has none yet. They are in the folder 'usage' of the archive, follow from its
    events, and can be deleted. Without them, or without some, the totals are the same.
    """
    with reported_errors(as_json=as_json), progress_bar("materializing") as advance:
        from ...archives import Archive  # noqa: PLC0415 - loads the domain

        materialization = Archive.open(destination).materialize(meter, progress=advance)
    confirm_result(materialization, archive_output.show_materialization, as_json=as_json)


_INTERVAL = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def _parse_interval(text: str) -> int:
    """Return the seconds of an interval. Raises BadParameter."""
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not an interval like 30s, 15m, 1h or 1d.", param_hint="'--every'")
    return int(match[1]) * _SECONDS[match[2]]


def _export(service: "ArchiveService", destination: str) -> "ArchiveExport":
    with progress_bar("exporting") as advance:
        return service.export(destination, progress=advance)


def _export_every(service: "ArchiveService", destination: str, interval_seconds: float, as_json: bool) -> None:
    """Export after each interval until Ctrl-C or SIGTERM. If the ledger or the store is unavailable, try again then."""
    from ....domain.errors import Unavailable  # noqa: PLC0415 - loads the domain

    with _interrupted_by_sigterm():
        try:
            while True:
                try:
                    confirm_result(_export(service, destination), archive_output.show_export, as_json=as_json)
                    sys.stdout.flush()
                except Unavailable as error:
                    print_error(error, as_json=as_json)
                time.sleep(interval_seconds)
        except KeyboardInterrupt:
            confirm_result({"stopped": destination}, lambda _: say("stopped"), as_json=as_json)


@contextmanager
def _interrupted_by_sigterm() -> Generator[None]:
    """Raise KeyboardInterrupt on SIGTERM, as on Ctrl-C."""
    previous_handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)


@contextmanager
def _open_service(url: str) -> Generator["ArchiveService"]:
    """Open the ledger without its read models, which an export does not need."""
    from ...archive.archived_events import connect_archive  # noqa: PLC0415 - loads the domain
    from ...archive.service import ArchiveService  # noqa: PLC0415
    from ...ledger.ledger import Ledger  # noqa: PLC0415
    from ...storage.url import resolve_store  # noqa: PLC0415

    require_ledger(url)
    with closing(connect_archive(Ledger(resolve_store(url)))) as ledger:
        yield ArchiveService(ledger)


app.command()(export)
app.command()(verify)
app.command()(archive_totals.totals)
app.command()(archive_sql.sql)
app.command()(materialize)
app.command()(register)
app.command()(archive_pruning.prune)
app.command()(archive_pruning.pruned)
