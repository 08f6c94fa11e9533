"""Programs that the tests start as processes: `python -m tests.processes.programs NAME URL …`.

The programs print their results line by line, and can be killed at any moment.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp

from tallybook.application import Progress
from tallybook.application.commands import run_closings
from tallybook.application.read_models.generations import Generations
from tallybook.domain.errors import LedgerUnavailable, PeriodOverlaps
from tallybook.projections.projector import Projector

from .forking import fork, fork_during_transaction, fork_twice, outlive_parent, record_and_crash, use_after_fork
from .tailing import tail_positions
from .usage import BATCH_SIZE, START, batch, count_and_sum, open_ledger, print_line


def record(url: str, writer: str, batches: str, size: str = str(BATCH_SIZE)) -> None:
    """Record batches, and print the number of each acknowledged batch; stop if the ledger becomes unavailable."""
    with open_ledger(url) as metering:
        print_line("ready")
        for number in range(int(batches)):
            try:
                outcomes = {receipt.outcome for receipt in metering.record_many(batch(writer, number, int(size)))}
            except LedgerUnavailable:
                return
            assert outcomes == {"accepted"}, outcomes
            print_line(number)


def record_sizes(url: str, writer: str, batches: str) -> None:
    """Record batches, half of whose events have a size after the first ones; print how many events were accepted."""
    with open_ledger(url) as metering:
        print_line("ready")
        sys.stdin.readline()
        for number in range(int(batches)):
            events = batch(writer, number)
            for event in events[:: 2 if number > int(batches) // 2 else 1]:
                event["payload"] = {"customer": "acme", "value": "3", "size": "2"}
            print_line(metering.record_many(events).accepted)


def record_unnamed(url: str, batches: str) -> None:
    """Record batches without identifiers, and print the number of each acknowledged batch, like `record`."""
    with open_ledger(url) as metering:
        print_line("ready")
        for number in range(int(batches)):
            events = [{**event, "identifier": None} for event in batch("", number)]
            try:
                outcomes = {receipt.outcome for receipt in metering.record_many(events)}
            except LedgerUnavailable:
                return
            assert outcomes == {"accepted"}, outcomes
            print_line(number)


def record_and_read(url: str, writer: str, batches: str) -> None:
    """Record batches, and print the totals after each."""
    with open_ledger(url) as metering:
        for number in range(int(batches)):
            metering.record_many(batch(writer, number))
            print_line(*count_and_sum(metering))


def read(url: str, until: str) -> None:
    """Query the totals repeatedly until the count is reached, and print them when they change."""
    with open_ledger(url) as metering:
        last = None
        while last is None or last[0] < int(until):
            now = count_and_sum(metering)
            if now != last:
                print_line(*now)
            last = now


def tail(url: str, until: str) -> None:
    """Read the ledger as it grows, up to a number of events; print how many were read, and how many in order."""
    with open_ledger(url) as metering:
        positions = tail_positions(metering._ledger.read_page, int(until))  # pyright: ignore
        print_line(len(positions), 1 + sum(before < after for before, after in pairwise(positions)))


def answer(url: str) -> None:
    """Print the totals for each line of standard input."""
    with open_ledger(url) as metering:
        print_line(*count_and_sum(metering))
        for _ in sys.stdin:
            print_line(*count_and_sum(metering))


def billing_run(url: str, batch_size: str) -> None:
    """Run a billing run in batches of some customers, and print the number of its closings after each."""
    run_closings.CUSTOMERS_PER_TRANSACTION = int(batch_size)  # pyright: ignore[reportConstantRedefinition]
    with open_ledger(url) as metering:
        metering.catch_up()
        print_line("ready")
        metering.periods.run(START, START.replace(day=2), progress=lambda done, _total, _meter: print_line(done))


def verify(url: str, count: str) -> None:
    """Verify the ledger `count` times, each time with a folder left behind by a killed process; print the results."""
    with open_ledger(url) as metering:
        print_line("ready")
        sys.stdin.readline()
        for _ in range(int(count)):
            if url.startswith("sqlite"):
                mkdtemp(prefix="usage.db.read-models.scratch-", dir=Path(url.removeprefix("sqlite:///")).parent)
            print_line(int(metering.verify().is_equal))


def create_together(url: str, writer: str, at: str) -> None:
    """Open a new ledger at the same moment as other processes, and record at once."""
    Path(f"{at}.{writer}.ready").touch()
    while not Path(at).exists():
        time.sleep(0.0005)
    with open_ledger(url) as metering:
        metering.record_many(batch(writer, 0))
        print_line(*count_and_sum(metering))


def close(url: str, days: str) -> None:
    """Wait for a line of input, then close periods of acme from the start to each of these days of the month.

    Print the last day, the position and the total of each closed period; zeros if it overlaps another one.
    """
    with open_ledger(url) as metering:
        print_line("ready")
        sys.stdin.readline()
        for day in map(int, days.split(",")):
            try:
                closed = metering.periods.close("tokens", "acme", START, START.replace(day=day), allow_empty=True)
            except PeriodOverlaps:
                print_line(day, 0, 0)
            else:
                print_line(day, closed.position, closed.quantity)


def catch_up(url: str, page_size: str, max_pages: str = "") -> None:
    """Wait for a line of input, then bring the read models up to date in small pages; print each position."""
    with open_ledger(url) as metering:
        print_line("ready")
        sys.stdin.readline()
        projector = Projector(metering._ledger, metering._read_models, int(page_size))  # pyright: ignore
        print_line(projector.catch_up(progress_printer(max_pages)))


def rebuild(url: str, page_size: str, max_pages: str = "", pause_seconds: str = "0") -> None:
    """Wait for a line of input, then build a candidate with the formula count in small pages; print each position."""
    with open_ledger(url) as metering:
        print_line("ready")
        sys.stdin.readline()
        generations = Generations(metering._ledger, metering._read_models)  # pyright: ignore
        with suppress(LedgerUnavailable):
            print_progress = progress_printer(max_pages, float(pause_seconds))
            generations.rebuild({"tokens": {"formula": "count"}}, print_progress, int(page_size))


def progress_printer(max_pages: str, pause_seconds: float = 0) -> Callable[[Progress], None]:
    """Return a callback that prints each position. After `max_pages` it waits until the standard input ends.

    A program that waits is killed at a moment before its end, however fast it is.
    """
    pages = 0

    def print_progress(progress: Progress) -> None:
        nonlocal pages
        print_line(progress.position)
        time.sleep(pause_seconds)
        pages += 1
        if str(pages) == max_pages:
            sys.stdin.read()

    return print_progress


def project(url: str) -> None:
    """Update the read models continuously until a line of input arrives."""
    stop = threading.Event()

    def wait_for_stop() -> None:
        sys.stdin.readline()
        stop.set()

    with open_ledger(url) as metering:
        threading.Thread(target=wait_for_stop, daemon=True).start()
        print_line("ready")
        with suppress(LedgerUnavailable):
            metering.run_projection(stop)


def promote(url: str, generation: str) -> None:
    """Promote a generation, and die once the rules have changed."""
    with open_ledger(url) as metering:
        metering._read_models.make_live = lambda generation, revisions: os.kill(os.getpid(), signal.SIGKILL)  # pyright: ignore
        metering.generations.promote(int(generation), reason="a test")


PROGRAMS: dict[str, Callable[..., None]] = {
    program.__name__: program
    for program in (
        record,
        record_sizes,
        record_unnamed,
        record_and_read,
        read,
        tail,
        answer,
        billing_run,
        verify,
        create_together,
        close,
        catch_up,
        rebuild,
        project,
        fork,
        use_after_fork,
        outlive_parent,
        fork_during_transaction,
        fork_twice,
        record_and_crash,
        promote,
    )
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
