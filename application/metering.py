"""Metering: the whole of Tallybook in one object, embedded in a program."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from ..domain.closed_period import ClosedPeriod
from ..domain.errors import NotPermitted
from ..domain.meter import Meter
from ..domain.meter_event import Cancellation
from ..domain.policy import AcceptancePolicy
from ..domain.report import Report
from ..projections.generations import Generation
from ..projections.projector import Progress, Projector, discard_foreign_views
from .access import AccessKeys
from .access_views import AccessKeyView, NewAccessKey
from .arguments import number, text
from .closing import PeriodCloser
from .comparing import Comparer, GenerationDifference
from .generations import Generations
from .ledger import Ledger
from .ledger_url import locate
from .meters import MeterRegistry
from .projecting import ProjectionRunner
from .reading import UsageReader
from .recording import UsageRecorder
from .results import Adjustment, Explanation, GenerationView, MeterChange, MeterEventView, MeterView, Receipt, Total
from .seals.growth import GrowthProof
from .seals.proof import EventProof
from .seals.results import SealVerification, SealView
from .seals.sealing import Sealer
from .stores.kept import Keeper, KeptRow
from .stores.postgres_settings import PostgresSettings
from .stores.store import GenerationViews
from .verifying import Verification, Verifier


def utc_now() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


class Metering:
    """A usage ledger and everything that can be asked of it. Open one with `Metering.open`.

    Safe to share between threads; any number of processes may open the same ledger. Every refusal is a
    `TallybookError` with a code, and refuses nothing else.
    """

    def __init__(
        self, ledger: Ledger, views: GenerationViews, policy: AcceptancePolicy, clock: Callable[[], datetime]
    ) -> None:
        self.clock = clock
        self._ledger = ledger
        self._views = views
        discard_foreign_views(ledger, views)
        self._projector = Projector(ledger, views)
        self._meters = MeterRegistry(ledger, clock)
        self._recorder = UsageRecorder(ledger, policy, clock)
        self._generations = Generations(ledger, views, clock)
        self._reader = UsageReader(ledger, self._projector, self._generations.follow_rules)
        self._runner = ProjectionRunner(ledger, self._reader)
        self._comparer = Comparer(self._generations, self._reader)
        self._verifier = Verifier(ledger, views, self._reader)
        self._closer = PeriodCloser(ledger, self._reader, policy, clock)
        self._sealer = Sealer(ledger, clock)
        self._keys = AccessKeys(ledger, clock)

    @classmethod
    def open(
        cls,
        url: str | PostgresSettings,
        *,
        policy: AcceptancePolicy = AcceptancePolicy(),  # noqa: B008 - frozen
        clock: Callable[[], datetime] = utc_now,
    ) -> "Metering":
        """Open the ledger at `url`, or begin one there.

        `sqlite:///usage.db` is a file, `sqlite:////var/lib/usage.db` one by its absolute path, `sqlite://` in memory;
        `postgresql://user@host/database` is a database, as libpq reads it, with `?schema=name` for another schema than
        `tallybook`. PostgresSettings say more than a URL can.
        `policy` says what is accepted; `clock` tells the time, as an aware datetime. Raises InvalidLedgerUrl,
        NotALedger, NewerSchema or LedgerUnavailable.
        """
        store = locate(url)
        with ExitStack() as opened:
            ledger = Ledger(store)
            opened.callback(ledger.close)
            views = store.views(ledger.changed_rules)
            opened.callback(views.close)
            metering = cls(ledger, views, policy, clock)
            opened.pop_all()
        return metering

    def close(self) -> None:
        """Let the ledger go. What other threads have under way is done, perhaps after this; nothing new begins."""
        self._views.close()
        self._ledger.close()

    def __enter__(self) -> "Metering":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- meters -----------------------------------------------------------------------------------

    def configure_meter(
        self,
        event_name: str,
        *,
        display_name: str | None = None,
        formula: str = "sum",
        event_time_window: str | None = None,
        customer_key: str = "stripe_customer_id",
        value_key: str = "value",
        dimension_keys: Sequence[str] = (),
    ) -> MeterView:
        """Begin to count something: events named `event_name`, one meter each, for ever.

        `formula` is sum, count or last. `event_time_window` is None (every event counts), hour or day (the newest
        report of each UTC hour or day replaces earlier ones). The keys say where in the payload the customer, the
        value and the dimension values are. Configuring a meter again as it is changes nothing and gives it; otherwise
        raises MeterExists, and InvalidParameter for an argument out of range.
        """
        return self._meters.configure(
            event_name, display_name, formula, event_time_window, customer_key, value_key, dimension_keys
        )

    def meters(self, *, as_of: datetime | int | None = None) -> list[MeterView]:
        """All meters, active and inactive, ordered by event name; those configured by then, as they were."""
        return self._meters.all(as_of)

    def meter(self, event_name: str, *, as_of: datetime | int | None = None) -> MeterView:
        """One meter, as it is or was. Raises NoMeter, also as of a time before it was configured."""
        return self._meters.meter(text(event_name, "event_name", 100), as_of)

    def meter_changes(self, *, after: int = 0, limit: int = 100) -> list[MeterChange]:
        """What happened to meters after the position `after` of the ledger, in order, up to `limit` at a time."""
        return self._meters.changes(number(after, "after", 0, 2**63 - 1), number(limit, "limit", 1, 10_000))

    def rename_meter(self, event_name: str, display_name: str) -> MeterView:
        """Show a meter under another name, of at most 250 characters."""
        shown = text(display_name, "display_name", 250)
        return self._meters.change(event_name, lambda meter, at: meter.rename(shown, at=at))

    def deactivate_meter(self, event_name: str) -> MeterView:
        """Take no more usage for a meter. Its name stays taken; its events can still be cancelled."""
        return self._meters.change(event_name, lambda meter, at: Meter.deactivate(meter, at=at))

    def reactivate_meter(self, event_name: str) -> MeterView:
        """Take usage for a meter again."""
        return self._meters.change(event_name, lambda meter, at: Meter.reactivate(meter, at=at))

    # --- usage ------------------------------------------------------------------------------------

    def record(
        self,
        event_name: str,
        payload: Mapping[str, str],
        *,
        identifier: str | None = None,
        timestamp: datetime | None = None,
    ) -> Receipt:
        """Record one use; durable when this returns.

        With an identifier, a retry is safe for ever: the same content again gives the outcome `duplicate` and the
        first position, other content raises DuplicateMeterEvent. Without one, each call is another use. `timestamp`
        says when the use happened (now, where None). Raises a TallybookError that names the field otherwise.
        """
        return self._recorder.record(
            {"event_name": event_name, "payload": payload, "identifier": identifier, "timestamp": timestamp}
        )

    def record_many(self, reports: Iterable[Report | Mapping[str, object] | object]) -> list[Receipt]:
        """Record many uses in one transaction; durable when this returns.

        A report is a mapping or an object of `event_name`, `payload`, `identifier` and `timestamp`. Gives a receipt
        for each, in order: `accepted`, `duplicate`, `conflict` (the identifier is taken by other content) or
        `rejected`, the last two with their `error`. A bad report never fails its neighbours.
        """
        return self._recorder.record_many(reports)

    def record_beside(
        self,
        reports: Iterable[Report | Mapping[str, object] | object],
        beside: Callable[[Sequence[Receipt], datetime], Sequence[KeptRow]],
    ) -> list[Receipt]:
        """Record like `record_many`, and keep in the same transaction what `beside` makes of the receipts.

        For who serves a ledger to others. `beside` is told the moment of the batch too. It may be called again where
        the transaction has to be begun anew, and must not use the ledger. Raises AlreadyKept, with nothing stored,
        where one of its rows is kept already.
        """
        return self._recorder.record_many(reports, beside)

    def keeper(self) -> Keeper:
        """What is kept beside the events, in the same database: for who serves a ledger to others.

        Its table is made where there is none. Raises NotPermitted where this user may not.
        """
        return self._ledger.keeper()

    def cancel(
        self, event_name: str, identifier: str, *, reason: str | None = None, by: str | None = None
    ) -> Cancellation:
        """Let a meter event count no more, as if it had never been reported; the event itself stays in the ledger.

        Cancelling again gives the first cancellation. Raises InvalidCancel where no such event is recorded under the
        meter, or its time to be cancelled (24 hours from its recording, by default) is over.
        """
        return self._recorder.cancel(event_name, identifier, reason, by)

    # --- questions --------------------------------------------------------------------------------

    def total(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
    ) -> Total:
        """What `customer` used in [start, end); all customers together where None; zeros where there is no usage.

        `as_of` asks what was known then: a moment (recorded up to and including it) or a position in the ledger.
        Raises NoMeter, InvalidTimeRange or InvalidAsOf.
        """
        return self._reader.total(event_name, customer, start, end, as_of)

    def totals(
        self, event_name: str, start: datetime, end: datetime, *, as_of: datetime | int | None = None
    ) -> list[Total]:
        """The total of each customer with usage that counts in [start, end), ordered by customer."""
        return self._reader.totals(event_name, start, end, as_of)

    def totals_from_ledger(self, event_name: str, start: datetime, end: datetime) -> list[Total]:
        """The same, counted anew from the ledger alone: no read models are read or written, however they are.

        It reads the whole ledger each time. Raises NoMeter, InvalidTimeRange or ProjectionStopped.
        """
        return self._reader.totals_from_ledger(event_name, start, end)

    def summaries(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        window: str,
        timezone: str = "UTC",
        as_of: datetime | int | None = None,
    ) -> list[Total]:
        """A total for each `minute`, `hour`, `day`, `month` or `year` of [start, end) with usage that counts.

        Windows follow the clocks of `timezone`, an IANA name, and tile the range, cut to it at its ends; each tells
        its `start` and `end` in UTC. At most 100,000 windows. Raises UnknownTimezone too.
        """
        return self._reader.summaries(event_name, customer, start, end, window, timezone, as_of)

    def events(
        self,
        event_name: str,
        *,
        customer: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
        limit: int = 1_000,
        starting_after: str | None = None,
    ) -> list[MeterEventView]:
        """The meter events in [start, end), by the time they occurred, with their verdicts.

        Up to `limit` (1 to 10,000) at a time; for the next page give the last one's identifier as `starting_after`.
        """
        return self._reader.events(event_name, customer, start, end, as_of, limit, starting_after)

    def event(self, identifier: str, *, as_of: datetime | int | None = None) -> MeterEventView:
        """One meter event, with its verdict. Raises NoMeterEvent, also as of a time before it was recorded."""
        return self._reader.event(identifier, as_of)

    def explain(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        *,
        as_of: datetime | int | None = None,
    ) -> Explanation:
        """Every meter event behind a total, with its verdict; those that counted add up to it."""
        return self._reader.explain(event_name, customer, start, end, as_of)

    def catch_up(self, progress: Callable[[Progress], None] | None = None) -> int:
        """Bring the read models up to date, as every question does; give the ledger position they reached.

        `progress` is called after each page. A user who may not fold waits for who does. Raises ProjectionStopped at an
        event that can't be folded.
        """
        try:
            return self._projector.catch_up(progress)
        except NotPermitted:
            return self._reader.keep_up()

    def run_projection(self, stop: threading.Event | None = None) -> None:
        """Keep the read models up to date until `stop` is set, or for ever: fold in whatever anybody records.

        Questions bring them up to date themselves; with a projection running they find it done, and users who may only
        read find it done at all. Any number may run: one at a time folds, and another goes on when it dies. A
        connection that is lost is tried again for a while. Raises LedgerUnavailable or ProjectionStopped.
        """
        self._runner.run(stop or threading.Event())

    # --- closed periods ---------------------------------------------------------------------------

    def close_period(self, event_name: str, customer: str, start: datetime, end: datetime) -> ClosedPeriod:
        """Freeze what `customer` used in [start, end), for an invoice; closing again gives the first answer.

        Usage and cancels that come later are recorded as ever and never change it: `adjustments` tells what they come
        to. Raises PeriodNotOver before the end and the policy's grace have passed, PeriodOverlaps where it overlaps
        another closed period of the customer on this meter.
        """
        return self._closer.close(event_name, customer, start, end)

    def reopen_period(
        self,
        event_name: str,
        customer: str,
        start: datetime,
        end: datetime,
        *,
        reason: str,
        by: str | None = None,
    ) -> ClosedPeriod:
        """Let a closed period be closed anew, for a new figure. The first closing is kept. Raises PeriodNotClosed."""
        return self._closer.reopen(event_name, customer, start, end, reason, by)

    def closed_periods(
        self,
        event_name: str,
        customer: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
        reopened: bool = False,
    ) -> list[ClosedPeriod]:
        """The closed periods that touch [start, end), by customer and start; of all customers where None.

        `reopened` asks for those too that were closed and reopened since.
        """
        return self._closer.closed_periods(event_name, customer, start, end, as_of, reopened=reopened)

    def adjustments(
        self,
        event_name: str,
        customer: str | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        as_of: datetime | int | None = None,
    ) -> list[Adjustment]:
        """What is owed, signed, on each closed period that touches [start, end), with the events that caused it.

        Figures are made under the rules that the period was closed with; what other rules would make of it is told
        apart. A closed period that nothing happened to since has none.
        """
        return self._closer.adjustments(event_name, customer, start, end, as_of)

    # --- generations and rules --------------------------------------------------------------------

    def generations(self) -> list[GenerationView]:
        """All generations of the read models, in the order that they were begun in; one of them is live."""
        return [self._shown(one) for one in self._generations.all()]

    def rebuild(
        self,
        *,
        rules: Mapping[str, Mapping[str, object]] | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> GenerationView:
        """Build a generation of the read models from the ledger, beside the live one, which goes on answering.

        `rules` builds a candidate: by event name, some of formula, event_time_window, customer_key, value_key and
        dimension_keys, and what they become. Interrupted at any moment, the same call goes on where it was. Raises
        RebuildRunning, RulesCannotRead or InvalidParameter.
        """
        return self._shown(self._generations.rebuild(rules, progress))

    def candidate(
        self,
        event_name: str,
        rules: Mapping[str, object],
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> GenerationView:
        """A generation that counts a meter by other rules, to look at before it is promoted.

        `rules` are as in `change_rules`. Gives the one that was built before, where it is there still. Raises
        RebuildRunning, RulesCannotRead, or InvalidParameter where the meter counts by these rules already.
        """
        return self._shown(self._generations.candidate({event_name: rules}, progress))

    def diff(self, generation: int, *, window: str = "month", timezone: str = "UTC") -> GenerationDifference:
        """How the figures of a generation differ from the live one's, by meter, customer and `window` of time."""
        return self._comparer.diff(generation, window, timezone)

    def promote(self, generation: int, *, reason: str | None = None, by: str | None = None) -> GenerationView:
        """Let a generation answer from now on. The one before is retired: promoting it again is the way back.

        Where it was built under other rules than those in force, these are changed first, which needs a `reason`.
        """
        return self._shown(self._generations.promote(generation, reason, by))

    def drop_generation(self, generation: int) -> None:
        """Do away with a generation that isn't live."""
        self._generations.drop(generation)

    def change_rules(
        self,
        event_name: str,
        rules: Mapping[str, object],
        *,
        reason: str,
        by: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> MeterView:
        """Count a meter by other rules, all of its past included; closed periods stay as they are.

        `rules` maps some of formula, event_time_window, customer_key, value_key and dimension_keys to what they
        become. To see first what changes: build a `candidate` with these rules, `diff` it, and `promote` it.
        Raises RulesCannotRead, with the events that the new rules can't read, and nothing changed.
        """
        self._generations.change_rules({event_name: rules}, reason, by, progress)
        return self.meter(event_name)

    def verify(self, progress: Callable[[Progress], None] | None = None) -> Verification:
        """Compare the live read models and all closed periods with a fresh fold of the ledger."""
        return self._verifier.verify(progress)

    # --- access keys ------------------------------------------------------------------------------

    def create_access_key(
        self, scopes: Iterable[str], name: str = "", *, livemode: bool = True, by: str | None = None
    ) -> NewAccessKey:
        """Begin a key to the ledger, for who asks it from outside: its `key` is told now and never again.

        `scopes` are some of record, read and admin, which allows everything; `name` is shown to people, and has at
        most 250 characters. The ledger keeps a hash of the key, who asked for it, and when.
        """
        return self._keys.create(scopes, name, livemode=livemode, by=by)

    def access_keys(self) -> list[AccessKeyView]:
        """All access keys, also revoked ones, in the order of their creation; never their secrets."""
        return self._keys.all()

    def access_key(self, key_id: str) -> AccessKeyView:
        """An access key as it is now. Raises NoAccessKey."""
        return self._keys.get(key_id)

    def revoke_access_key(self, key_id: str, *, reason: str | None = None, by: str | None = None) -> AccessKeyView:
        """Let an access key open nothing from now on, in whichever program it is shown.

        Revoking it again gives the first revocation. Raises NoAccessKey.
        """
        return self._keys.revoke(key_id, reason=reason, by=by)

    def authenticate(self, key: str) -> AccessKeyView:
        """Whose key this is, and what its scopes allow; as of now, also where another program revoked it.

        Raises InvalidAccessKey, with the same message whatever is wrong with it, and never the key itself.
        """
        return self._keys.authenticate(key)

    # --- seals ------------------------------------------------------------------------------------

    def seal(self, file: str | Path, *, key: str | Path | None = None, name: str | None = None) -> SealView:
        """Append a seal of all events of now to a file outside of the ledger; on disk when this returns.

        All of the ledger is compared with the earlier seals first. `key` is a PEM file with an Ed25519 private key;
        `name` the ledger's in its seals, fixed by the first. Raises LedgerDiffersFromSeals, InvalidSealFile or
        InvalidKey.
        """
        return self._sealer.seal(file, key=key, name=name)

    def verify_seals(self, file: str | Path, *, key: str | Path | None = None) -> SealVerification:
        """Compare all of the ledger with its seals: its `difference` is the first position that was changed, or None.

        Where `key` is given, a public key or a file that holds one, every seal has to be signed by it. Raises
        InvalidSealFile or InvalidKey.
        """
        return self._sealer.verify(file, key=key)

    def prove(self, identifier: str, file: str | Path) -> tuple[EventProof, ...]:
        """A proof, for `check_proof`, that each stored event of a meter event is under the last seal in `file`.

        Of its recording, and of its cancel if it was cancelled. Raises InvalidIdentifier, NotSealed,
        LedgerDiffersFromSeals or InvalidSealFile.
        """
        return self._sealer.prove(identifier, file)

    def prove_growth(self, file: str | Path, earlier: int, later: int | None = None) -> GrowthProof:
        """A proof, for `check_growth`, that the seal of `later` events only adds to the one of `earlier` events.

        Of the last seal where `later` is None. Raises NotSealed or InvalidSealFile.
        """
        return self._sealer.prove_growth(file, earlier, later)

    def _shown(self, generation: Generation) -> GenerationView:
        return GenerationView(
            generation.number,
            generation.state,
            generation.position,
            self._ledger.head(),
            self._generations.rule_changes(generation),
        )
