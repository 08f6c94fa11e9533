"""Memory: what recording and folding take at their peak, at one size and at ten times that size."""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from . import usage
from .measure import Measured, agree

MARK = 1.5
TIMES = 10


def measure(folder: Path, events: int) -> Iterator[Measured]:
    """Each in a process of its own; flat is when ten times the events take hardly more memory."""
    sizes = (events // TIMES, events)
    peaks = {(work, size): _peak(work, folder / f"memory-{size}.db", size) for size in sizes for work in WORKS}
    for work in WORKS:
        small, large = (peaks[work, size] for size in sizes)
        ratio = large / small
        yield Measured(
            f"peak memory to {work}, {sizes[1]:,} / {sizes[0]:,} events",
            ratio,
            f"<= {MARK}",
            ratio <= MARK,
            {"small": f"{small / 1024:.0f} MiB", "large": f"{large / 1024:.0f} MiB"},
        )


def _peak(work: str, file: Path, events: int) -> int:
    done = subprocess.run(
        [sys.executable, "-m", __name__, work, str(file), str(events)], capture_output=True, text=True, check=True
    )
    peak, counted = map(int, done.stdout.split())
    agree(f"events after {work}", counted, events)
    return peak


def _record(file: Path, events: int) -> int:
    usage.record(file, events)
    return events


def _fold(file: Path, _: int) -> int:
    with usage.opened(file) as metering:
        metering.catch_up()
        return metering.total("tokens", None, usage.START, usage.END).count


WORKS: Mapping[str, Callable[[Path, int], int]] = {"record": _record, "fold": _fold}


def peak_kibibytes() -> int:
    """The most memory that this process has had.

    Linux keeps ru_maxrss over fork and exec, so that a child would tell its parent's peak; VmHWM is its own.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(found.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


if __name__ == "__main__":
    counted = WORKS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    print(peak_kibibytes(), counted)
