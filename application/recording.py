"""The way in: reports are recorded and cancelled."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import cast

import msgspec
from eventsourcing.persistence import IntegrityError
from uuid_utils import uuid7

from ..domain.errors import (
    DuplicateMeterEvent,
    InvalidCancel,
    InvalidParameter,
    LedgerDamaged,
    LedgerUnavailable,
    NoMeter,
    NotPermitted,
    TallybookError,
)
from ..domain.instants import in_utc
from ..domain.meter import Decider, Meter
from ..domain.meter_event import Cancellation, ReportedUse
from ..domain.policy import AcceptancePolicy
from ..domain.report import Report, read_report
from ..domain.texts import is_storable, shown
from .arguments import note, text
from .ledger import BesideUses, Held, Ledger
from .results import Outcome, Receipt
from .stores.kept import KeptRow
from .stores.store import StreamMoved

Beside = Callable[[Sequence[Receipt], datetime], Sequence[KeptRow]]
"""What is to be kept with a batch, told by its receipts and the moment that it was decided at."""


class _Decision(msgspec.Struct, gc=False):
    """What was decided of one report: the use to store, or the reason it is refused for."""

    identifier: str | None
    report: Report | None
    use: ReportedUse | None
    error: TallybookError | None = None


class UsageRecorder:
    """Records reports and cancels them, each identifier exactly once."""

    def __init__(self, ledger: Ledger, policy: AcceptancePolicy, clock: Callable[[], datetime]) -> None:
        self.ledger = ledger
        self.policy = policy
        self.clock = clock

    def record(self, report: object) -> Receipt:
        """Record one report; raise what refuses it."""
        (receipt,) = self.record_many((report,))
        if receipt.error is not None:
            raise receipt.error
        return receipt

    def record_many(self, reports: Iterable[object], beside: Beside | None = None) -> list[Receipt]:
        """Record reports in one transaction and answer each on its own.

        Given the receipts and the moment that was decided at, `beside` tells what is kept in the same transaction. It
        is asked anew where that has to be begun again. Raises AlreadyKept, with nothing stored.
        """
        given = list(_each(reports))
        while True:
            now = in_utc(self.clock(), "clock")
            meters = _Meters(self.ledger, self.policy, now)
            decisions = [_decide(report, meters) for report in given]
            try:
                return self._store(decisions, meters.loaded, now, beside)
            except StreamMoved:
                continue  # a meter was changed meanwhile: it decides anew

    def cancel(self, event_name: str, identifier: str, reason: str | None, by: str | None) -> Cancellation:
        """Cancel what is recorded under `identifier`; give the first cancellation if it was cancelled before."""
        text(event_name, "event_name", 100)
        text(identifier, "identifier", 100)
        while True:
            found = self.ledger.meter_event(identifier)
            if found is None:
                self.ledger.meter(event_name)
                raise InvalidCancel(
                    f"No event is recorded under the identifier {identifier!r}.", field="identifier", value=identifier
                )
            meter_event, position = found
            cancellation = meter_event.cancel(
                event_name,
                recorded_position=position,
                at=in_utc(self.clock(), "clock"),
                policy=self.policy,
                reason=note(reason, "reason"),
                by=note(by, "by"),
            )
            try:
                self.ledger.append(meter_event.collect_events())
            except IntegrityError:
                continue  # cancelled by somebody else in between: give that cancellation
            return cancellation

    def _store(
        self,
        decisions: Sequence[_Decision],
        meters: Iterable[Meter],
        now: datetime,
        beside: Beside | None,
    ) -> list[Receipt]:
        """Store what was decided, and what is kept with it; give the receipts.

        All go in with one insert. Where identifiers turn out to be taken, by earlier reports or by another writer
        meanwhile, nothing has been stored: what holds them is looked up, and the rest goes in.
        """
        uses = _uses(decisions)
        refused = {one.identifier for one in decisions if one.use is None and one.identifier is not None}
        held = self.ledger.held(refused) if refused else {}
        kept: BesideUses | None = None if beside is None else lambda new: beside(_receipts(decisions, held, new), now)
        new: Mapping[str, int] = {}
        while uses or kept is not None:
            try:
                new = self.ledger.append_uses(uses, meters, kept)
                break
            except IntegrityError:
                taken = self.ledger.held(uses)
                if not taken:
                    raise
                held.update(taken)
                uses = {identifier: use for identifier, use in uses.items() if identifier not in taken}
        return _receipts(decisions, held, new)


def _decide(given: object, meters: Mapping[str, Decider]) -> _Decision:
    try:
        report = read_report(given)
    except TallybookError as error:
        return _Decision(_identifier_of(given), None, None, error)
    try:
        use = meters[report.event_name](report)
    except (LedgerDamaged, LedgerUnavailable, NotPermitted):
        raise  # nothing is wrong with the report: whoever reads that it was rejected won't send it again
    except TallybookError as error:
        return _Decision(report.identifier, report, None, error)
    return _Decision(report.identifier or str(uuid7()), report, use)


def _uses(decisions: Iterable[_Decision]) -> dict[str, ReportedUse]:
    """The first use of each identifier."""
    uses: dict[str, ReportedUse] = {}
    for decision in decisions:
        if decision.use is not None and decision.identifier is not None:
            uses.setdefault(decision.identifier, decision.use)
    return uses


def _receipts(decisions: Sequence[_Decision], held: Mapping[str, Held], new: Mapping[str, int]) -> list[Receipt]:
    """The receipts of a batch, of whose identifiers the ledger held some before, and holds new ones at positions."""
    if len(new) == len(decisions):  # each report is new, under an identifier of its own
        return list(map(Receipt, new, new.values(), repeat(Outcome.ACCEPTED)))
    known = dict(held)
    receipts: list[Receipt] = []
    for decision in decisions:
        identifier, use = decision.identifier, decision.use
        if identifier is not None and use is not None and identifier in new and identifier not in known:
            receipts.append(Receipt(identifier, new[identifier], Outcome.ACCEPTED))
            known[identifier] = Held(use, new[identifier])  # for what says it again, later in the batch
        else:
            receipts.append(_refused_or_known(decision, known))
    return receipts


def _refused_or_known(decision: _Decision, held: Mapping[str, Held]) -> Receipt:
    """The receipt of a report that is not new. One that is recorded is a duplicate, even if it were refused today."""
    identifier, report = decision.identifier, decision.report
    if identifier is None or report is None or identifier not in held:
        return Receipt(identifier, None, Outcome.REJECTED, decision.error)
    use, position = held[identifier]
    if use.is_said_by(report):
        return Receipt(identifier, position, Outcome.DUPLICATE)
    error = DuplicateMeterEvent(
        f"The identifier {identifier!r} is taken by an event with other content, recorded at "
        f"{use.recorded_at:%Y-%m-%dT%H:%M:%SZ}; an identifier can be used once.",
        field="identifier",
        value=identifier,
    )
    return Receipt(identifier, position, Outcome.CONFLICT, error)


def _each(reports: object) -> Iterable[object]:
    if not isinstance(reports, Iterable):
        raise InvalidParameter(f"'reports' must be a list of reports, not {shown(reports)}.", field="reports")
    return cast(Iterable[object], reports)


def _identifier_of(given: object) -> str | None:
    """The identifier of a report that can't be read, so that its refusal can be told apart from others."""
    found = (
        cast(Mapping[str, object], given).get("identifier")
        if isinstance(given, Mapping)
        else getattr(given, "identifier", None)
    )
    return found if isinstance(found, str) and is_storable(found) else None


class _Meters(dict[str, Decider]):
    """What decides on the reports of a batch, by event name: its meters, `loaded` once each."""

    def __init__(self, ledger: Ledger, policy: AcceptancePolicy, now: datetime) -> None:
        super().__init__()
        self.loaded: list[Meter] = []
        self._ledger = ledger
        self._policy = policy
        self._now = now
        self._refusals: dict[str, TallybookError] = {}

    def __missing__(self, event_name: str) -> Decider:
        if event_name in self._refusals:
            raise self._refusals[event_name]
        try:
            meter = self._ledger.meter(event_name)
        except NoMeter as error:
            self._refusals[event_name] = error
            raise
        self.loaded.append(meter)
        decider = self[event_name] = meter.decider(at=self._now, policy=self._policy)
        return decider
