"""The demo: records, corrects, explains and replays a month of usage in a new ledger, which is not deleted."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from zoneinfo import ZoneInfo

import typer

from ....domain.errors import InvalidLedgerUrl
from ...clock import utc_now
from ...demo_data import CUSTOMER, DAYS, METERS, DemoEvent, generate_month
from ...metering import Metering
from ...redaction import redact
from ...results import Total
from ...storage.ports import Store
from ...storage.url import resolve_store
from ..formatting import format_formula, format_number
from .explain import open_explanation, show_explanation
from .session import reported_errors
from .terminal import say
from .time_ranges import TimeRange

BATCH_SIZE = 1_000
EXPLAINED_DAY = 21
_FILE_NAME = "tallybook-demo{}.db"


def run_demo(url: str | None) -> None:
    """Run the demo on a new ledger at `url`, or on a new file in the current folder."""
    with reported_errors(as_json=False):
        ledger_url = url or _unused_url()
        store = _new_store(ledger_url)
        midnight = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
        _Demo(ledger_url, store, midnight - timedelta(days=DAYS), midnight).run()


def _unused_url() -> str:
    """Return the URL of the first demo file name in the current folder that does not exist."""
    names = (_FILE_NAME.format("" if number == 1 else f"-{number}") for number in count(1))
    return "sqlite:///" + next(name for name in names if not Path(name).exists())


def _new_store(url: str) -> Store:
    """Return the store of the ledger to create at `url`. Raises InvalidLedgerUrl if a ledger or a file exists there."""
    store = resolve_store(url)
    if not store.is_persistent:
        raise InvalidLedgerUrl(
            "The demo needs a ledger that persists, so that you can explore it: use a file.", field="url", value=url
        )
    if store.exists():
        raise InvalidLedgerUrl(
            f"{store.location} exists already. The demo creates its own ledger: use another name.", field="url"
        )
    return store


@dataclass(frozen=True, slots=True)
class _Demo:
    """A demo with the usage of [start, end), whole days in UTC."""

    url: str
    store: Store
    start: datetime
    end: datetime

    def run(self) -> None:
        """Record, send again, correct, explain and replay. End with exit status 1 if any total differs."""
        say(f"New ledger: {redact(self.url)}")
        with Metering.open(self.url) as metering:
            self._configure(metering)
            last_batch = self._record(metering)
            self._send_again(metering, last_batch)
            self._correct(metering)
            self._explain(metering)
            totals = self._all_totals(metering)
        self._replay(totals)
        self._suggest()

    def _configure(self, metering: Metering) -> None:
        _step(1, "Three meters are configured.")
        for event_name, rules in METERS.items():
            meter = metering.meters.configure(event_name, customer_key="customer", **rules)
            say(f"   {event_name:<14}{format_formula(meter.formula, meter.event_time_window)}")

    def _record(self, metering: Metering) -> list[DemoEvent]:
        events = list(generate_month(self.start))
        customers = len({event["payload"]["customer"] for event in events})
        size, batch_size = format_number(len(events)), f"{BATCH_SIZE:,}"
        _step(2, f"A month of usage: {size} meter events of {customers} customers, {batch_size} a batch.")
        started = time.monotonic()
        accepted = sum(
            metering.record_many(events[first : first + BATCH_SIZE]).accepted
            for first in range(0, len(events), BATCH_SIZE)
        )
        seconds = time.monotonic() - started
        rate = f"{accepted / seconds:,.0f} events/s, each batch durable"
        say(f"   {accepted:,} accepted in {seconds:.1f} s: {rate}")
        return events[-BATCH_SIZE:]

    def _send_again(self, metering: Metering, batch: list[DemoEvent]) -> None:
        _step(3, "The last batch is sent again, as after a lost connection.")
        before = self._tokens_total(metering, None)
        duplicates = metering.record_many(batch).duplicates
        after = self._tokens_total(metering, None)
        _check(duplicates == len(batch) and after == before, "A meter event was counted twice")
        say(f"   {duplicates:,} duplicates; nothing is counted twice.")
        before_text, after_text = format_number(before.value), format_number(after.value)
        say(f"   tokens of all customers: {before_text} before, {after_text} after")

    def _correct(self, metering: Metering) -> None:
        _step(4, f"A wrong meter event of {CUSTOMER} is recorded, and cancelled.")
        before = self._tokens_total(metering, CUSTOMER)
        at = self._explained_range().start + timedelta(hours=12)
        wrong = metering.record(
            "tokens", {"customer": CUSTOMER, "value": "1500000"}, identifier="demo-wrong", timestamp=at
        )
        with_wrong_event = self._tokens_total(metering, CUSTOMER)
        cancellation = metering.cancel("tokens", "demo-wrong", reason="bytes, not tokens", by="ops")
        after = self._tokens_total(metering, CUSTOMER)
        as_of_wrong_event = self._tokens_total(metering, CUSTOMER, as_of=wrong.position)
        say(f"   reason: {cancellation.reason}; requested by {cancellation.by}")
        for label, total in (
            ("before it", before),
            ("with it", with_wrong_event),
            ("cancelled", after),
            (f"as of position {wrong.position}, before the cancellation", as_of_wrong_event),
        ):
            say(f"   {label:<48}{format_number(total.value):>12}")

    def _explain(self, metering: Metering) -> None:
        _step(5, f"The meter events behind {CUSTOMER}'s total of one day.")
        span = self._explained_range()
        with open_explanation(metering, "tokens", CUSTOMER, span) as explanation:
            show_explanation("tokens", span, explanation)

    def _replay(self, before: list[Total]) -> None:
        _step(6, "The read models are deleted, and built again from the ledger.")
        self.store.delete_read_models()
        with Metering.open(self.url) as metering:
            started = time.monotonic()
            position = metering.catch_up()
            seconds = time.monotonic() - started
            after = self._all_totals(metering)
        _check(after == before, f"After a replay of {position:,} events the totals differ")
        say(f"   {position:,} events replayed in {seconds:.1f} s; all {len(after)} totals are the same.")

    def _suggest(self) -> None:
        range_options = f"--from {self.start:%Y-%m-%d} --to {self.end:%Y-%m-%d}"
        day_option = f"--period {self._explained_range().start:%Y-%m-%d}"
        _step(7, "The ledger is yours to explore:")
        for line in (
            f"export TALLYBOOK_LEDGER={redact(self.url)}",
            f"tallybook summaries tokens {range_options}",
            f"tallybook totals storage_gb {range_options}",
            f"tallybook explain tokens {CUSTOMER} {day_option}",
            f"tallybook record tokens customer={CUSTOMER} value=25 --identifier req-1",
        ):
            say(f"   {line}")

    def _explained_range(self) -> TimeRange:
        start = self.start + timedelta(days=EXPLAINED_DAY)
        return TimeRange(start, start + timedelta(days=1), ZoneInfo("UTC"), f"{start:%Y-%m-%d} (UTC)")

    def _tokens_total(self, metering: Metering, customer: str | None, as_of: int | None = None) -> Total:
        return metering.total("tokens", customer, self.start, self.end, as_of=as_of)

    def _all_totals(self, metering: Metering) -> list[Total]:
        return [total for event_name in METERS for total in metering.totals(event_name, self.start, self.end)]


def _check(is_true: bool, problem: str) -> None:
    """Print the problem and end the command with exit status 1 if a statement of the demo is not true."""
    if not is_true:
        say(f"   {problem}. This is a bug: please report it.")
        raise typer.Exit(1)


def _step(number: int, title: str) -> None:
    say()
    say(f"{number}. {title}")
