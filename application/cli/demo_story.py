"""The story that the demo tells, on a real ledger that stays."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import typer

from ...domain.errors import TallybookError
from ..demo import CUSTOMER, DAYS, METERS, DemoReport, month_of_usage
from ..metering import Metering, utc_now
from ..results import Outcome, Total
from ..stores.store import Store
from .demo_place import free_url, new_store
from .explanations import show_explanation
from .periods import Span
from .session import told
from .terminal import say
from .wording import counted_by, number

BATCH = 1_000
EXPLAINED_DAY = 21


def tell(url: str | None) -> None:
    """Tell the story on a new ledger at `url`; on one in this folder where there is none."""
    try:
        chosen = url or free_url()
        store = new_store(chosen)
        midnight = utc_now().replace(hour=0, minute=0, second=0, microsecond=0)
        story = _Story(chosen, store, midnight - timedelta(days=DAYS), midnight)
        story.tell()
    except TallybookError as error:
        told(error, in_json=False)
        raise typer.Exit(1) from None


@dataclass(frozen=True, slots=True)
class _Story:
    """A month of usage in a ledger: [start, end), whole days in UTC."""

    url: str
    store: Store
    start: datetime
    end: datetime

    def tell(self) -> None:
        """Record, repeat, correct and explain; then replay, and end with status 1 if any figure differs."""
        say(f"A ledger is begun: {self.url}")
        with Metering.open(self.url) as metering:
            self._configure(metering)
            last_batch = self._record(metering)
            self._repeat(metering, last_batch)
            self._correct(metering)
            self._explain(metering)
            figures = self._figures(metering)
        self._replay(figures)
        self._suggest()

    def _configure(self, metering: Metering) -> None:
        _step(1, "Three meters are configured.")
        for event_name, rules in METERS.items():
            meter = metering.configure_meter(event_name, customer_key="customer", **rules)
            say(f"   {event_name:<14}{counted_by(meter.formula, meter.event_time_window)}")

    def _record(self, metering: Metering) -> list[DemoReport]:
        reports = list(month_of_usage(self.start))
        customers = len({report["payload"]["customer"] for report in reports})
        _step(2, f"A month of usage: {number(len(reports))} reports of {customers} customers, in batches of {BATCH:,}.")
        began = time.monotonic()
        accepted = 0
        for first in range(0, len(reports), BATCH):
            accepted += _count(metering, reports[first : first + BATCH], Outcome.ACCEPTED)
        seconds = time.monotonic() - began
        rate = f"{accepted / seconds:,.0f} reports/s, each batch safe on disk"
        say(f"   {accepted:,} accepted in {seconds:.1f} s: {rate}")
        return reports[-BATCH:]

    def _repeat(self, metering: Metering, batch: list[DemoReport]) -> None:
        _step(3, "The last batch is sent again, as after a lost connection.")
        before = self._total(metering, None)
        duplicates = _count(metering, batch, Outcome.DUPLICATE)
        after = self._total(metering, None)
        _hold(duplicates == len(batch) and after == before, "Something was counted twice")
        say(f"   {duplicates:,} duplicates; nothing is counted twice.")
        say(f"   tokens of all customers: {number(before.value)} before, {number(after.value)} after")

    def _correct(self, metering: Metering) -> None:
        _step(4, f"A wrong report of {CUSTOMER}'s tokens comes in, and is cancelled.")
        before = self._total(metering, CUSTOMER)
        at = self._explained().start + timedelta(hours=12)
        wrong = metering.record(
            "tokens", {"customer": CUSTOMER, "value": "1500000"}, identifier="demo-wrong", timestamp=at
        )
        with_it = self._total(metering, CUSTOMER)
        cancellation = metering.cancel("tokens", "demo-wrong", reason="bytes, not tokens", by="ops")
        now, then = self._total(metering, CUSTOMER), self._total(metering, CUSTOMER, as_of=wrong.position)
        say(f"   reason: {cancellation.reason}; asked for by {cancellation.by}")
        for said, total in (("before it", before), ("with it", with_it), ("cancelled", now)):
            say(f"   {said:<44}{number(total.value):>12}")
        say(f"   {f'as of position {wrong.position}, before the cancel':<44}{number(then.value):>12}")

    def _explain(self, metering: Metering) -> None:
        _step(5, f"The events behind {CUSTOMER}'s figure of one day.")
        span = self._explained()
        show_explanation("tokens", span, metering.explain("tokens", CUSTOMER, span.start, span.end))

    def _replay(self, before: list[Total]) -> None:
        _step(6, "The read models are deleted, and made again from the ledger.")
        self.store.forget()
        with Metering.open(self.url) as metering:
            began = time.monotonic()
            position = metering.catch_up()
            seconds = time.monotonic() - began
            after = self._figures(metering)
        _hold(after == before, f"{position:,} events replayed, and the figures differ")
        say(f"   {position:,} events replayed in {seconds:.1f} s; all {len(after)} totals are the same.")

    def _suggest(self) -> None:
        range_ = f"--from {self.start:%Y-%m-%d} --to {self.end:%Y-%m-%d}"
        day = f"--period {self._explained().start:%Y-%m-%d}"
        _step(7, "The ledger is yours to explore:")
        for line in (
            f"export TALLYBOOK_LEDGER={self.url}",
            f"tallybook usage tokens {range_}",
            f"tallybook totals storage_gb {range_}",
            f"tallybook explain tokens {CUSTOMER} {day}",
            f"tallybook record tokens customer={CUSTOMER} value=25 --identifier req-1",
        ):
            say(f"   {line}")

    def _explained(self) -> Span:
        start = self.start + timedelta(days=EXPLAINED_DAY)
        return Span(start, start + timedelta(days=1), ZoneInfo("UTC"), f"{start:%Y-%m-%d} (UTC)")

    def _total(self, metering: Metering, customer: str | None, as_of: int | None = None) -> Total:
        return metering.total("tokens", customer, self.start, self.end, as_of=as_of)

    def _figures(self, metering: Metering) -> list[Total]:
        return [total for meter in METERS for total in metering.totals(meter, self.start, self.end)]


def _count(metering: Metering, batch: list[DemoReport], outcome: Outcome) -> int:
    return sum(receipt.outcome is outcome for receipt in metering.record_many(batch))


def _hold(is_so: bool, otherwise: str) -> None:
    """Say what went wrong and end with status 1, unless what the story is about to claim is so."""
    if not is_so:
        say(f"   {otherwise}. This should never be; please report it.")
        raise typer.Exit(1)


def _step(place: int, said: str) -> None:
    say()
    say(f"{place}. {said}")
