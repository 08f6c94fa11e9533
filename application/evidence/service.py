"""Evidence packs: `metering.evidence`."""

import codecs
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, TextIO, cast

from ...domain.errors import CheckpointMismatch, CustomerWithoutUsage, InvalidCheckpointFile
from ...domain.meter import Meter
from ...domain.text import abbreviated_repr
from ...projections.models import AsOf
from ..checkpoints.checkpoint_file import CheckpointFile, SignedCheckpoint
from ..checkpoints.leaves import LeafHashFile
from ..checkpoints.paths import require_path
from ..checkpoints.signing_keys import PrivateKey, PublicKey
from ..ledger.ledger import Ledger
from ..queries.adjustments import PeriodQueries
from ..queries.explanation_csv import explanation_csv
from ..queries.explanations import ExplanationQueries
from ..queries.meter_query import MeterQueryFactory
from ..results import ExplainedEvent
from ..validation import optional_event_names, require_bool, require_customer, require_time_range
from .collected_events import CollectedEvents
from .evidenced_totals import EvidencedTotals
from .pack_file import PackFile, new_pack_file
from .page import PageContents, write_page
from .program_text import check_program, check_program_sha256
from .proven_events import write_events, write_hashes
from .results import EvidenceKind, EvidencePack, EvidenceTotal
from .totals_json import evidence_total, totals_json

LIST = "SHA256SUMS"
"""The list of all files but itself and its signature, in the form of `sha256sum`."""
_utf_8_writer = codecs.getwriter("utf-8")


def _no_progress(_events: int) -> None:
    pass


class EvidenceService:
    """Writes evidence packs: the totals of one customer with all that is needed to check them without the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        meter_queries: MeterQueryFactory,
        explanations: ExplanationQueries,
        periods: PeriodQueries,
    ) -> None:
        self._ledger = ledger
        self._totals = EvidencedTotals(ledger, meter_queries, explanations, periods)

    def write(
        self,
        file: str | Path,
        customer: str,
        start: datetime,
        end: datetime,
        *,
        checkpoints: str | Path,
        meters: Sequence[str] | None = None,
        key: str | Path | None = None,
        public_key: str | Path | None = None,
        overwrite: bool = False,
        progress: Callable[[int], object] = _no_progress,
    ) -> EvidencePack:
        """Write a zip file with the totals of `customer` in [start, end), their events and proofs; return what it has.

        The totals are those as of the last checkpoint in the file `checkpoints`, and those of the periods in the range
        that were closed until then. They are of some `meters`, or of all on which the customer has usage or a closed
        period in the range. The pack has a program, check.py, that checks all of it with Python alone.

        `key` is the file of the private key that signed the checkpoint: it signs the list of the files too. With
        `public_key` alone, the list is not signed. `progress` is called with the number of events so far. Any number
        of events fits in memory.

        Raises MeterNotFound, CustomerWithoutUsage, InvalidTimeRange, InvalidCheckpointFile, InvalidSigningKey,
        CheckpointMismatch, and InvalidParameter, also if `file` exists without `overwrite`.
        """
        path, customer = require_path(file, "file"), require_customer(customer)
        start, end, _ = require_time_range(start, end)
        names, overwrite = optional_event_names(meters), require_bool(overwrite, "overwrite")
        checkpoint_file = require_path(checkpoints, "checkpoints")
        signed_checkpoint = CheckpointFile(checkpoint_file).read_nonempty().all[-1]
        checkpoint = signed_checkpoint.checkpoint
        private_key = None if key is None else PrivateKey.load(require_path(key, "key"), checkpoint.origin)
        verified_key = _verified_key(signed_checkpoint, private_key, public_key, checkpoint_file)
        if self._ledger.head() < checkpoint.size:
            raise CheckpointMismatch(
                f"The ledger has fewer events than the checkpoint of {checkpoint.size} events.", field="checkpoints"
            )
        events = CollectedEvents(self._ledger, checkpoint.size, progress)
        with new_pack_file(path, checkpoint.time, overwrite=overwrite) as pack:
            samples: dict[str, list[ExplainedEvent]] = {}
            totals = tuple(self._write_totals(pack, events, samples, customer, (start, end), checkpoint.size, names))
            if not totals:
                raise CustomerWithoutUsage(
                    f"The customer {abbreviated_repr(customer)} has no usage and no closed period from {start} to "
                    f"{end} in the {checkpoint.size} events of the checkpoint. 'tallybook checkpoint create' covers "
                    "newer events.",
                    field="customer",
                    value=customer,
                )
            leaves = LeafHashFile.for_checkpoints(checkpoint_file)
            self._write_proofs(pack, events, signed_checkpoint, leaves, verified_key)
            pack.add("totals.json", totals_json(customer, totals))
            pack.add("check.py", check_program())
            contents = PageContents(customer, start, end, totals, samples, events, signed_checkpoint, verified_key)
            with pack.open("index.html") as page:
                write_page(page, contents)
            _add_list(pack, private_key)
            list_sha256 = pack.sha256[LIST]
        return EvidencePack(
            str(path), path.stat().st_size, customer, start, end, totals, len(events.positions), checkpoint.origin,
            checkpoint.size, checkpoint.time, private_key is not None, list_sha256, check_program_sha256(),
        )  # fmt: skip

    def _write_proofs(
        self,
        pack: PackFile,
        events: CollectedEvents,
        signed_checkpoint: SignedCheckpoint,
        leaves: LeafHashFile,
        verified_key: PublicKey | None,
    ) -> None:
        """Write the stored events, the hashes that prove that the checkpoint covers them, and the checkpoint."""
        with pack.open("events.txt") as events_file:
            hashes = write_events(events_file, self._ledger, events.positions)
        with pack.open("hashes.txt") as hashes_file:
            write_hashes(hashes_file, signed_checkpoint.checkpoint, leaves, events.positions, hashes)
        pack.add("checkpoint.txt", str(signed_checkpoint.note).encode())
        if verified_key is not None:
            pack.add("public-key.txt", f"{verified_key}\n".encode())

    def _write_totals(
        self,
        pack: PackFile,
        events: CollectedEvents,
        samples: dict[str, list[ExplainedEvent]],
        customer: str,
        bounds: tuple[datetime, datetime],
        size: int,
        names: Sequence[str] | None,
    ) -> Iterator[EvidenceTotal]:
        """Write the explanations of all totals. A meter without usage and closing is left out, unless it is named."""
        number = 0
        for meter in self._meters(names, size):
            found = list(self._totals.find(meter.event_name, customer, *bounds, size))
            has_closing = any(total.kind is not EvidenceKind.CURRENT for total in found)
            for total in found:
                with self._totals.explained(total, customer) as explanation:
                    if not (explanation.event_count or has_closing or names is not None):
                        continue
                    number += 1
                    name = f"explanation-{number}-{total.kind}.csv"
                    with pack.open(name) as file:
                        collected = events.of_explanation(explanation.events, samples.setdefault(name, []))
                        explanation_csv(
                            replace(explanation, events=collected), cast(TextIO, _utf_8_writer(cast(IO[bytes], file)))
                        )
                    yield evidence_total(total, explanation, name)
                events.add_meter(meter, customer)

    def _meters(self, names: Sequence[str] | None, size: int) -> Iterator[Meter]:
        """Yield the meters as of the checkpoint. Raises MeterNotFound."""
        if names is None:
            yield from self._ledger.meters(AsOf(size))
        for name in names or ():
            yield self._ledger.meter(name)


def _verified_key(
    signed_checkpoint: SignedCheckpoint,
    private_key: PrivateKey | None,
    public_key: str | Path | None,
    checkpoint_file: Path,
) -> PublicKey | None:
    """Return the key that signed the checkpoint; None if none is given. Raises InvalidCheckpointFile."""
    if private_key is None and public_key is None:
        return None
    key = PublicKey.load(public_key) if public_key is not None else cast(PrivateKey, private_key).public_key
    if (private_key is not None and private_key.public_key != key) or not key.has_signed(signed_checkpoint.note):
        raise InvalidCheckpointFile(
            f"The last checkpoint in {checkpoint_file} is not signed by {key}.", field="key", value=checkpoint_file
        )
    return key


def _add_list(pack: PackFile, private_key: PrivateKey | None) -> None:
    """Add the list of all files, and its signature."""
    pack.add(LIST, pack.file_list())
    if private_key is not None:
        pack.add(f"{LIST}.signature", str(private_key.sign(f"tallybook evidence\n{pack.sha256[LIST]}\n")).encode())
