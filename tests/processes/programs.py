"""Programs that the tests start as processes of their own: `python -m tests.processes.programs NAME URL …`.

They tell what they did line by line, and are killed at any moment.
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

from tallybook.application import Progress, utc_now
from tallybook.application.generations import Generations
from tallybook.domain.errors import LedgerUnavailable, PeriodOverlaps
from tallybook.projections.projector import Projector

from .forking import fork, use_after_fork
from .tailing import tailed
from .usage import BATCH, START, batch, figures, opened, tell


def record(url: str, writer: str, batches: str, size: str = str(BATCH)) -> None:
    """Record batches, and tell the number of each once it is acknowledged; end early where the ledger goes away."""
    with opened(url) as metering:
        tell("ready")
        for number in range(int(batches)):
            try:
                outcomes = {receipt.outcome for receipt in metering.record_many(batch(writer, number, int(size)))}
            except LedgerUnavailable:
                return
            assert outcomes == {"accepted"}, outcomes
            tell(number)


def record_unnamed(url: str, batches: str) -> None:
    """Record batches without identifiers, and tell the number of each once it is acknowledged, as `record` does."""
    with opened(url) as metering:
        tell("ready")
        for number in range(int(batches)):
            reports = [{**report, "identifier": None} for report in batch("", number)]
            try:
                outcomes = {receipt.outcome for receipt in metering.record_many(reports)}
            except LedgerUnavailable:
                return
            assert outcomes == {"accepted"}, outcomes
            tell(number)


def record_and_read(url: str, writer: str, batches: str) -> None:
    """Record batches, and tell the figures after each."""
    with opened(url) as metering:
        for number in range(int(batches)):
            metering.record_many(batch(writer, number))
            tell(*figures(metering))


def read(url: str, until: str) -> None:
    """Ask for the figures again and again until the count is reached, and tell them whenever they have changed."""
    with opened(url) as metering:
        last = None
        while last is None or last[0] < int(until):
            now = figures(metering)
            if now != last:
                tell(*now)
            last = now


def tail(url: str, until: str) -> None:
    """Read the ledger as it grows, until so many events are seen; tell how many there were, and how many in order."""
    with opened(url) as metering:
        seen = tailed(metering._ledger.page, int(until))  # pyright: ignore
        tell(len(seen), 1 + sum(before < after for before, after in pairwise(seen)))


def answer(url: str) -> None:
    """Tell the figures whenever asked."""
    with opened(url) as metering:
        tell(*figures(metering))
        for _ in sys.stdin:
            tell(*figures(metering))


def begin_together(url: str, writer: str, at: str) -> None:
    """Open a ledger that nobody has made yet, at the same moment as others do, and record at once."""
    Path(f"{at}.{writer}.ready").touch()
    while not Path(at).exists():
        time.sleep(0.0005)
    with opened(url) as metering:
        metering.record_many(batch(writer, 0))
        tell(*figures(metering))


def close(url: str, ends: str) -> None:
    """Close periods of acme from the start to each of these days of the month, once told to, as others do.

    Tells the last day, the position and the figure of each that was closed; 0s where it overlapped another.
    """
    with opened(url) as metering:
        tell("ready")
        sys.stdin.readline()
        for day in map(int, ends.split(",")):
            try:
                closed = metering.close_period("tokens", "acme", START, START.replace(day=day))
            except PeriodOverlaps:
                tell(day, 0, 0)
            else:
                tell(day, closed.position, closed.quantity)


def catch_up(url: str, page_size: str) -> None:
    """Bring the read models up to date in small pages, once told to, and tell each position reached."""
    with opened(url) as metering:
        tell("ready")
        sys.stdin.readline()

        def told(progress: Progress) -> None:
            tell(progress.position)

        tell(Projector(metering._ledger, metering._views, int(page_size)).catch_up(told))  # pyright: ignore


def rebuild(url: str, page_size: str, pause_seconds: str = "0") -> None:
    """Build a candidate that counts each use once, in small pages, once told to; tell each position reached."""
    with opened(url) as metering:
        tell("ready")
        sys.stdin.readline()

        def told(progress: Progress) -> None:
            tell(progress.position)
            time.sleep(float(pause_seconds))

        generations = Generations(metering._ledger, metering._views, utc_now)  # pyright: ignore
        with suppress(LedgerUnavailable):
            generations.rebuild({"tokens": {"formula": "count"}}, told, int(page_size))


def project(url: str) -> None:
    """Keep the read models up to date, until told to stop."""
    stop = threading.Event()

    def heed() -> None:
        sys.stdin.readline()
        stop.set()

    with opened(url) as metering:
        threading.Thread(target=heed, daemon=True).start()
        tell("ready")
        with suppress(LedgerUnavailable):
            metering.run_projection(stop)


def promote(url: str, generation: str) -> None:
    """Promote a generation, to be killed once the rules have changed."""
    with opened(url) as metering:
        metering._views.make_live = lambda generation, revisions: os.kill(os.getpid(), signal.SIGKILL)  # pyright: ignore
        metering.promote(int(generation), reason="a test")


PROGRAMS: dict[str, Callable[..., None]] = {
    program.__name__: program
    for program in (
        record,
        record_unnamed,
        record_and_read,
        read,
        tail,
        answer,
        begin_together,
        close,
        catch_up,
        rebuild,
        project,
        fork,
        use_after_fork,
        promote,
    )
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
