"""The command `evidence` and its output."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..formatting import format_count, format_number, format_time
from .option_groups import ClosedPeriodOptions, with_option_groups
from .options import DEFAULT_LEDGER, JsonOption, LedgerOption
from .session import interruptible, open_for_query
from .tables import table
from .terminal import progress_bar, say

if TYPE_CHECKING:
    from ...evidence.results import EvidencePack
    from .time_ranges import TimeRange

CustomerArgument = Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer.", show_default=False)]
OutputOption = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The zip file to write.")]
MeterOption = Annotated[
    list[str] | None,
    typer.Option("--meter", metavar="METER", help="Only totals of this meter. Repeatable. All meters by default."),
]
CheckpointsOption = Annotated[
    Path,
    typer.Option("--checkpoints", metavar="FILE", help="The checkpoint file, whose last checkpoint is the proof."),
]
PrivateKeyOption = Annotated[
    Path | None,
    typer.Option("--key", metavar="FILE", help="The private key of the checkpoints: it signs the list of files too."),
]
PublicKeyOption = Annotated[
    str | None,
    typer.Option("--public-key", metavar="KEY", help="The public key of the checkpoints, or a file that holds it."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")]


@with_option_groups
def evidence(
    customer: CustomerArgument,
    *,
    output: OutputOption,
    time: ClosedPeriodOptions,
    meter: MeterOption = None,
    checkpoints: CheckpointsOption,
    key: PrivateKeyOption = None,
    public_key: PublicKeyOption = None,
    overwrite: OverwriteOption = False,
    ledger: LedgerOption = DEFAULT_LEDGER,
    as_json: JsonOption = False,
) -> None:
    """Write a customer's totals to a zip file that proves them.

    It has each total as of the last checkpoint and of each closed period, every event with its verdict, who changed
    what, proofs, a page to read, and the program check.py, which checks all of it on a machine without Tallybook.
    """
    if time.is_default:
        raise typer.BadParameter("Use --period, or both --from and --to.")
    with (
        open_for_query(ledger, as_json) as session,
        interruptible(session, lambda: f"Interrupted. No evidence pack {str(output)!r} was written."),
    ):
        span, _ = session.time_range(time)
        with progress_bar("collecting", estimate=False) as advance:
            pack = session.metering.evidence.write(
                output, customer, span.start, span.end, checkpoints=checkpoints, meters=meter, key=key,
                public_key=public_key, overwrite=overwrite,
                progress=lambda events: advance(events, None, f"{events:,} events"),
            )  # fmt: skip
        session.confirm(pack, partial(show_evidence, span))


def show_evidence(span: "TimeRange", pack: "EvidencePack") -> None:
    """Print the totals in an evidence pack, and the digests to state to the recipient."""
    say(f"{pack.file}: {pack.customer}, {span.label}")
    table(
        ("meter", "total", "quantity", "billable", "counted", "of"),
        [
            (total.meter, str(total.kind), format_number(total.quantity), format_number(total.billable),
             format_number(total.count), format_number(total.event_count))
            for total in pack.totals
        ],
        right=("quantity", "billable", "counted", "of"),
    )  # fmt: skip
    events, checkpointed = format_count(pack.events, "stored event"), format_count(pack.position, "event")
    say(f"{events}, proved by the checkpoint of {checkpointed} at {format_time(pack.checkpoint_time)}")
    say(f"SHA-256 of SHA256SUMS  {pack.sha256}{', signed' if pack.is_signed else ''}")
    say(f"SHA-256 of check.py    {pack.check_program_sha256}")
