"""Work on a ledger in a process of its own, so that its peak memory is that work's alone."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from . import usage
from .measure import agree, seconds

LOOK_EVERY_SECONDS = 0.1
"""Seldom enough to leave the processor to what is measured; peaks are kept by the system meanwhile."""
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Done:
    """How long some work took, without its preparations, and the most memory that it had."""

    seconds: float
    peak_bytes: int


def apart(work: str, url: str, events: int) -> Done:
    """Do one of WORKS on the ledger at `url`. Raises WrongAnswer where it didn't come to so many events."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, work, url, str(events)], stdout=subprocess.PIPE, text=True
    )
    try:
        peak, said = _watched(process)
    finally:
        process.kill()  # where this one is ended, the other doesn't go on
    if process.returncode:
        raise RuntimeError(f"to {work} {url} failed: exit status {process.returncode}")
    took, its_own_peak, counted = said.split()
    agree(f"events after {work}", int(counted), events)
    return Done(float(took), max(peak, int(its_own_peak)))


def _watched(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """The most memory that a process had while it ran, and what it said."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory_of_all(process.pid))
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_EVERY_SECONDS)
    return peak, process.communicate()[0]


def _memory_of_all(pid: int) -> int:
    """The peaks so far of a process and of those that it has started, together; what they share counts twice."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return sum(_peak(one) for one in (first, *first.children(recursive=True)))
    return 0


def _peak(process: psutil.Process) -> int:
    """VmHWM, where there is one: Linux keeps ru_maxrss over fork and exec, so that a child would tell its parent's."""
    with suppress(OSError, psutil.Error, StopIteration):
        status = Path(f"/proc/{process.pid}/status")
        if not status.exists():
            return process.memory_info().rss
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return 0


def _record(url: str, events: int) -> tuple[float, int]:
    took, accepted = 0.0, 0
    with usage.opened(url) as metering:
        for batch in usage.batches(events):
            began = time.perf_counter()
            receipts = metering.record_many(batch)
            took += time.perf_counter() - began
            accepted += sum(receipt.outcome == "accepted" for receipt in receipts)
    return took, accepted


def _rebuild(url: str, _: int) -> tuple[float, int]:
    with usage.opened(url) as metering:
        took = seconds(metering.catch_up)
        return took, metering.total(usage.METER, None, usage.START, usage.END).count


WORKS: Mapping[str, Callable[[str, int], tuple[float, int]]] = {"record": _record, "rebuild": _rebuild}


def main(work: str, url: str, events: int) -> None:
    """Do the work, and print its seconds, its peak and its events."""
    took, counted = WORKS[work](url, events)
    print(took, _peak(psutil.Process()), counted)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
