"""Peak memory of recording and of rebuilding, each in a separate process."""

from collections.abc import Iterator

from ..bench import Bench
from ..measure import Measurement, Target
from ..subprocess_run import MEBIBYTE, RunResult, run_in_subprocess

TARGET = Target(500, is_ceiling=True)


def memory(bench: Bench) -> Iterator[Measurement]:
    """Measure the peak memory of the process and its children at each size."""
    yield _measurement("to record", bench, bench.recording)
    bench.engine.delete_read_models(bench.ledger())
    yield _measurement("to rebuild", bench, run_in_subprocess("rebuild", bench.ledger(), bench.events), TARGET)


def _measurement(name: str, bench: Bench, result: RunResult, target: Target | None = None) -> Measurement:
    figures = {"µs/event": result.seconds / bench.events * 1e6}
    return Measurement(name, result.peak_bytes / MEBIBYTE, "MiB", target, 1, figures)
