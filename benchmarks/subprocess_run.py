"""Runs a task on a ledger in a separate process, so that the peak memory of the process is that of the task."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from tallybook.application import Archive

from . import workload
from .measure import check_equal, seconds

POLL_INTERVAL_SECONDS = 0.1
"""Long enough not to disturb the measurement: the operating system records the peaks in the meantime."""
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class RunResult:
    """The duration of a task without its preparation, and its peak memory."""

    seconds: float
    peak_bytes: int


def run_in_subprocess(task: str, url: str, events: int) -> RunResult:
    """Run one of TASKS on the ledger at `url`. Raises WrongResult if it did not process this number of events."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, task, url, str(events)], stdout=subprocess.PIPE, text=True
    )
    try:
        peak, output = _monitor(process)
    finally:
        process.kill()  # also if this process is interrupted
    if process.returncode:
        raise RuntimeError(f"the task {task!r} on {url} failed with exit status {process.returncode}")
    elapsed, own_peak, event_count = output.split()
    check_equal(f"events after {task}", int(event_count), events)
    return RunResult(float(elapsed), max(peak, int(own_peak)))


def _monitor(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for a process, and return its peak memory in bytes and its output."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, _total_peak_memory(process.pid))
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_INTERVAL_SECONDS)
    return peak, process.communicate()[0]


def _total_peak_memory(pid: int) -> int:
    """Return the sum of the peaks so far of a process and its children. Shared memory counts once per process."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(pid)
        return sum(_process_peak_memory(process) for process in (first, *first.children(recursive=True)))
    return 0


def _process_peak_memory(process: psutil.Process) -> int:
    """Return VmHWM if the system has it. On Linux, a child inherits ru_maxrss from its parent through fork and exec."""
    with suppress(OSError, psutil.Error, StopIteration):
        status = Path(f"/proc/{process.pid}/status")
        if not status.exists():
            return process.memory_info().rss
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return 0


def _record(url: str, events: int) -> tuple[float, int]:
    elapsed, accepted = 0.0, 0
    with workload.open_ledger(url) as metering:
        for batch in workload.batches(events):
            started_at = time.perf_counter()
            receipts = metering.record_many(batch)
            elapsed += time.perf_counter() - started_at
            accepted += sum(receipt.outcome == "accepted" for receipt in receipts)
    return elapsed, accepted


def _rebuild(url: str, _: int) -> tuple[float, int]:
    with workload.open_ledger(url) as metering:
        elapsed = seconds(metering.catch_up)
        return elapsed, metering.total(workload.METER, None, workload.START, workload.END).count


def _export(url: str, _: int) -> tuple[float, int]:
    with workload.open_ledger(url) as metering, TemporaryDirectory() as folder:
        elapsed = seconds(lambda: metering.archive.export(folder))
        rows = sum(segment.last - segment.first + 1 for segment in Archive.open(folder).segments)
        return elapsed, rows - 1  # the first event is that of the meter


TASKS: Mapping[str, Callable[[str, int], tuple[float, int]]] = {
    "record": _record,
    "rebuild": _rebuild,
    "export": _export,
}


def main(task: str, url: str, events: int) -> None:
    """Run the task, and print its duration in seconds, its peak memory in bytes and its number of events."""
    elapsed, event_count = TASKS[task](url, events)
    print(elapsed, _process_peak_memory(psutil.Process()), event_count)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
