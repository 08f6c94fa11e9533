"""The page of an evidence pack for people: one HTML file that prints well, without scripts and without requests."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from html import escape
from typing import Any, NamedTuple

from eventsourcing.persistence import Notification

from ...domain.counting import counted_value
from ...domain.timestamps import to_iso
from ..checkpoints.checkpoint_file import SignedCheckpoint
from ..checkpoints.signing_keys import PublicKey
from ..results import ExplainedEvent
from .collected_events import CollectedEvents
from .pack_file import HashingWriter
from .results import EvidenceKind, EvidenceTotal

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 66rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #ddd;
  overflow-wrap: anywhere; }
th { border-bottom: 2px solid #888; } .number { text-align: right; font-variant-numeric: tabular-nums; }
pre, code { font: .85rem/1.4 ui-monospace, monospace; } pre { white-space: pre-wrap; overflow-wrap: anywhere;
  background: #f4f4f4; padding: .7rem; }
@media print { body { margin: 0; max-width: none; font-size: 10pt; } tr, pre { break-inside: avoid; }
  thead { display: table-header-group; } pre { background: none; border: 1px solid #bbb; } }
"""
_KINDS = {
    EvidenceKind.CURRENT: "total as of the checkpoint",
    EvidenceKind.CLOSED: "closed period, as invoiced",
    EvidenceKind.ADJUSTED: "closed period, as of the checkpoint",
}
_REPEATED_FIELDS = {
    "recorded_at",
    "reason",
    "by",
    "event_name",
    "customer",
    "payload",
    "rules",
    "groups",
    "recorded_position",
}


class PageContents(NamedTuple):
    """What the page shows."""

    customer: str
    start: datetime
    end: datetime
    totals: Sequence[EvidenceTotal]
    samples: Mapping[str, Sequence[ExplainedEvent]]
    events: CollectedEvents
    signed_checkpoint: SignedCheckpoint
    key: PublicKey | None


def write_page(file: HashingWriter, contents: PageContents) -> None:
    """Write the page."""
    for part in _parts(contents):
        file.write(f"{part}\n".encode())


def _parts(contents: PageContents) -> Iterator[str]:
    title = f"Usage of {contents.customer}, {_time(contents.start)} to {_time(contents.end)}"
    yield f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>"
    checkpoint = contents.signed_checkpoint.checkpoint
    yield (
        f"<p>From the ledger {escape(checkpoint.origin)}, as of its checkpoint of {checkpoint.size:,} events at "
        f"{_time(checkpoint.time)}. This page shows what the other files of the pack contain; the program "
        "<code>check.py</code> checks them. Times are in UTC.</p>"
    )
    yield "<h2>Totals</h2>"
    yield from _table(
        ("Meter", "What", "Range", "Quantity", "Billable", "Events counted", "Revision", "As of position"),
        (_total_cells(total) for total in contents.totals),
        numbers=(3, 4, 5, 6, 7),
    )
    yield from _adjustments(contents.totals)
    yield "<h2>Changes of meters and periods</h2>"
    facts = sorted(contents.events.facts, key=lambda stored: stored.id)
    yield from _table(_FACT_COLUMNS, map(_fact_cells, facts), numbers=(0,))
    yield "<h2>Cancellations</h2>"
    cancellations = [stored for _, stored in sorted(contents.events.cancellations.items())]
    if cancellations:
        yield from _table(_FACT_COLUMNS, map(_fact_cells, cancellations), numbers=(0,))
        yield f"<p>The first {len(cancellations):,} are shown; <code>events.txt</code> has all.</p>"
    else:
        yield "<p>No meter event of these totals was cancelled.</p>"
    for total in contents.totals:
        yield from _explanation(total, contents.samples[total.explanation])
    yield from _how_to_check(contents)
    yield "</body>\n</html>"


def _total_cells(total: EvidenceTotal) -> tuple[str, ...]:
    return (
        total.meter, _KINDS[total.kind], f"{_time(total.start)} to {_time(total.end)}", _number(total.quantity),
        _number(total.billable), f"{total.count:,} of {total.event_count:,}", str(total.revision),
        f"{total.position:,}",
    )  # fmt: skip


def _adjustments(totals: Sequence[EvidenceTotal]) -> Iterator[str]:
    """Yield how closed periods have changed since they were closed."""
    adjusted = [total for total in totals if total.roll_forward is not None]
    if not adjusted:
        return
    names = ("frozen", "late", "cancelled", "superseded", "restored", "recalculated", "now", "settled", "open")
    yield "<h2>Adjustments of closed periods</h2>"
    yield (
        "<p>Frozen, late, cancelled, superseded, restored and recalculated usage add up to the quantity now. What was "
        "not settled by a credit note or an invoice is open.</p>"
    )
    yield from _table(
        ("Meter", "Period", *(name.capitalize() for name in names)),
        (
            (total.meter, f"{_time(total.start)} to {_time(total.end)}",
             *(_number(getattr(total.roll_forward, name)) for name in names))
            for total in adjusted
        ),
        numbers=range(2, 2 + len(names)),
    )  # fmt: skip


_FACT_COLUMNS = ("Position", "Recorded at", "Event", "Of", "By", "Reason", "Details")


def _fact_cells(stored: Notification) -> tuple[str, ...]:
    """Return the cells of a stored event: who, when and why; and all other fields of it that are short."""
    state: dict[str, Any] = json.loads(stored.state)
    details = [
        f"{field}: {value if isinstance(value, str) else json.dumps(value)}"
        for field, value in state.items()
        if field not in _REPEATED_FIELDS and value is not None
    ]
    subject = str(stored.originator_id).partition("/")[2]
    recorded_at, by, reason = (str(state.get(field) or "") for field in ("recorded_at", "by", "reason"))
    return str(stored.id), recorded_at, str(stored.topic), subject, by or "not recorded", reason, "; ".join(details)


def _explanation(total: EvidenceTotal, samples: Sequence[ExplainedEvent]) -> Iterator[str]:
    """Yield the rules of a total, and its first events."""
    yield f"<h2>{escape(total.meter)}: {_KINDS[total.kind]}, {_number(total.quantity)}</h2>"
    rules = json.dumps(total.rules.model_dump(mode="json", by_alias=True), ensure_ascii=False)
    yield f"<p>Rules, revision {total.revision}:</p>\n<pre>{escape(rules)}</pre>"
    yield f"<p>SHA-256 of the {total.count:,} counted events: <code>{total.digest}</code></p>"
    yield from _table(
        ("Position", "Identifier", "Occurred at", "Value", "Contribution", "Verdict"),
        (
            (
                str(event.position),
                event.identifier,
                to_iso(event.occurred_at),
                counted_value(event.value, event.unique_value),
                _number(event.contribution),
                f"superseded by {event.superseded_by}" if event.superseded_by else str(event.verdict),
            )
            for event in samples
        ),
        numbers=(0, 3, 4),
    )
    shown = (
        "All events are shown" if len(samples) == total.event_count else f"The first {len(samples):,} events are shown"
    )
    yield f"<p>{shown}; <code>{total.explanation}</code> has all {total.event_count:,}.</p>"


def _how_to_check(contents: PageContents) -> Iterator[str]:
    yield (
        "<h2>How to check this</h2>\n<p>Extract the zip file and run <code>python -I -S check.py</code> in its folder, "
        "with Python 3.8 or later. The program compares every file with the list <code>SHA256SUMS</code>, proves by "
        "hashes that each event is in the checkpoint, verifies the signatures, and counts every total once more from "
        "the events.</p>\n<p>It can't show what the sender has changed in the program itself. Compare the SHA-256 of "
        "<code>check.py</code> and of <code>SHA256SUMS</code> with those that <code>tallybook evidence</code> printed, "
        "or run a copy of the program from another source. It can't show either that an event was left out of a total "
        "that no closed period has frozen, or that was never recorded.</p>\n<p>The checkpoint:</p>"
    )
    yield f"<pre>{escape(str(contents.signed_checkpoint.note))}</pre>"
    if contents.key is not None:
        yield f"<p>The public key that signed it:</p>\n<pre>{escape(str(contents.key))}</pre>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int]) -> Iterator[str]:
    """Yield a table; the columns `numbers` are aligned at the right."""

    def line(tag: str, cells: Sequence[str]) -> str:
        attributes = [' class="number"' if index in numbers else "" for index in range(len(cells))]
        return "".join(
            f"<{tag}{attribute}>{escape(cell)}</{tag}>" for cell, attribute in zip(cells, attributes, strict=True)
        )

    yield f"<table>\n<thead><tr>{line('th', columns)}</tr></thead>\n<tbody>"
    for row in rows:
        yield f"<tr>{line('td', row)}</tr>"
    yield "</tbody>\n</table>"


def _number(number: Decimal) -> str:
    return format(number, ",f")


def _time(at: datetime) -> str:
    return to_iso(at).replace("T", " ")
