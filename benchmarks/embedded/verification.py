"""Operations that read the whole ledger to check it or to build a generation, compared with the engine's GROUP BY."""

from collections.abc import Callable, Iterator
from itertools import count

from tallybook.application import Metering

from .. import workload
from ..bench import Bench
from ..engines.engine import CountAndSum
from ..measure import OURS, Measurement, check_equal, compare, interleave, seconds, time_query

GENERATION, CHECKPOINT = "generation", "checkpoint"


def audit(bench: Bench) -> Iterator[Measurement]:
    """Measure `verify`, building another generation, and a first checkpoint of all events."""
    url, engine = bench.ledger(), bench.engine
    results: list[list[CountAndSum]] = []
    with workload.open_ledger(url) as metering, engine.group_by(url, engine.group_name) as grouped:
        metering.catch_up()
        timings = interleave(
            {
                OURS: lambda: _verify(metering),
                GENERATION: lambda: _rebuild(metering),
                CHECKPOINT: _checkpoint_task(metering, bench),
                engine.group_name: lambda: time_query(lambda: grouped(0), results),
            },
            bench.turns_without_target,
        )
    check_equal("events counted", sum(row[1] for row in results[0]), bench.events)
    yield compare("verify", timings, bench.events)
    yield compare("build another generation", timings, bench.events, ours=GENERATION)
    yield compare("first checkpoint", timings, bench.events, ours=CHECKPOINT)


def _verify(metering: Metering) -> float:
    results: list[bool] = []
    elapsed = time_query(lambda: metering.verify().is_equal, results)
    check_equal("read models and a replay of the ledger", results, [True])
    return elapsed


def _rebuild(metering: Metering) -> float:
    numbers: list[int] = []
    elapsed = time_query(lambda: metering.generations.rebuild().number, numbers)
    check_equal("differences between the generations", metering.generations.diff(numbers[0]).differences, ())
    metering.generations.drop(numbers[0])
    return elapsed


def _checkpoint_task(metering: Metering, bench: Bench) -> Callable[[], float]:
    numbers = count()

    def create_checkpoint() -> float:
        file = bench.folder / f"{next(numbers)}.checkpoints"
        elapsed = seconds(lambda: metering.checkpoints.create(file))
        verification = metering.checkpoints.verify(file)
        check_equal(
            "checkpointed events", (verification.checkpointed_events, verification.difference), (bench.events + 1, None)
        )
        for checkpoint_file in bench.folder.glob(f"{file.name}*"):
            checkpoint_file.unlink()
        return elapsed

    return create_checkpoint
