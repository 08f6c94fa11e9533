"""Export of the ledger to an archive: processor time, size and peak memory."""

import shutil
import statistics
import time
from collections.abc import Iterator

from .. import workload
from ..bench import Bench
from ..measure import Measurement, Target, check_equal
from ..subprocess_run import MEBIBYTE, run_in_subprocess

PROCESSOR_TARGET = Target(4, is_ceiling=True)
SIZE_TARGET = Target(25, is_ceiling=True)
MEMORY_TARGET = Target(286, is_ceiling=True)
"""300 MB."""


def archive(bench: Bench) -> Iterator[Measurement]:
    """Measure exports to a folder. Processor time includes that of all threads, but not of the database server."""
    _export_one_event(bench)
    exports = [_export(bench) for _ in range(bench.turns_without_target)]
    processor_seconds = statistics.median(seconds for seconds, _ in exports)
    file_bytes = exports[0][1]
    memory = run_in_subprocess("export", bench.ledger(), bench.events)
    yield Measurement(
        "export, processor time", processor_seconds / bench.events * 1e6, "µs/event", PROCESSOR_TARGET, len(exports)
    )
    yield Measurement("size of the archive", file_bytes / bench.events, "bytes/event", SIZE_TARGET, 1)
    figures = {"µs/event": memory.seconds / bench.events * 1e6}
    yield Measurement("memory to export", memory.peak_bytes / MEBIBYTE, "MiB", MEMORY_TARGET, 1, figures)


def _export_one_event(bench: Bench) -> None:
    """Import what an export needs, which takes as long as the export of 100,000 events."""
    folder = bench.folder / "one-event"
    with workload.open_ledger("sqlite://") as metering:
        metering.archive.export(folder)
    shutil.rmtree(folder)


def _export(bench: Bench) -> tuple[float, int]:
    """Export the ledger. Return the seconds of processor time and the bytes of the archive."""
    folder = bench.folder / "archive"
    with workload.open_ledger(bench.ledger()) as metering:
        started_at = time.process_time()
        exported = metering.archive.export(folder)
        elapsed = time.process_time() - started_at
    shutil.rmtree(folder)
    check_equal("archived events", exported.rows, bench.events + 1)
    return elapsed, exported.bytes
