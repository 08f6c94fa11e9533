"""What reads all of the ledger to check it or to build anew beside it; the engine's GROUP BY is the yardstick."""

from collections.abc import Callable, Iterator
from itertools import count

from tallybook.application import Metering

from .. import usage
from ..bench import Bench
from ..engines.engine import Counted
from ..measure import OURS, Measured, agree, answered, compared, in_turns, seconds

BUILT, SEALED = "built", "sealed"


def audit(bench: Bench) -> Iterator[Measured]:
    """A generation built beside the live one, `verify`, and a first seal of all events."""
    url, engine = bench.ledger(), bench.engine
    answers: list[list[Counted]] = []
    with usage.opened(url) as metering, engine.grouping(url, engine.group_name) as grouped:
        metering.catch_up()
        took = in_turns(
            {
                OURS: lambda: _verified(metering),
                BUILT: lambda: _built(metering),
                SEALED: _sealing(metering, bench),
                engine.group_name: lambda: answered(lambda: grouped(0), answers),
            },
            bench.unmarked_turns,
        )
    agree("events counted", sum(one[1] for one in answers[0]), bench.events)
    yield compared("verify", took, bench.events)
    yield compared("another generation beside the live one", took, bench.events, ours=BUILT)
    yield compared("seal", took, bench.events, ours=SEALED)


def _verified(metering: Metering) -> float:
    found: list[bool] = []
    took = answered(lambda: metering.verify().is_equal, found)
    agree("read models and a fresh fold", found, [True])
    return took


def _built(metering: Metering) -> float:
    numbers: list[int] = []
    took = answered(lambda: metering.rebuild().number, numbers)
    agree("differences of the generation", metering.diff(numbers[0]).differences, ())
    metering.drop_generation(numbers[0])
    return took


def _sealing(metering: Metering, bench: Bench) -> Callable[[], float]:
    numbers = count()

    def seal() -> float:
        file = bench.folder / f"{next(numbers)}.seals"
        took = seconds(lambda: metering.seal(file))
        verification = metering.verify_seals(file)
        agree("sealed events", (verification.sealed, verification.difference), (bench.events + 1, None))
        for made in bench.folder.glob(f"{file.name}*"):
            made.unlink()
        return took

    return seal
