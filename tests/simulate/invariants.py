"""What is looked at after each step, and, now and then, in full."""

from typing import TYPE_CHECKING, Any

from tallybook.application import Metering

from . import queries
from .action_generator import ALL_TIME
from .outcomes import ModelMismatch, OperationResult
from .queries import Query

if TYPE_CHECKING:
    from .simulation import Simulation

MAX_NOTES = 6


class EarlierResults:
    """Answers that were noted with the position they were given at: asked as of it, they stay."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str, Any]] = []


def check_step(simulation: "Simulation", metering: Metering) -> int:
    """One question, chosen by the seed, one figure as of a noted position, and that no row has changed."""
    if not simulation.model.meters(simulation.model.head):
        return 0
    _check_query(simulation, metering, simulation.chooser.query())
    return 1 + _check_earlier_result(simulation, metering)


def check_everything(simulation: "Simulation", metering: Metering) -> int:
    """All rows, all figures, all that is told of them, and a fresh fold."""
    model = simulation.model
    if simulation.location.rows(0) != model.rows:
        raise ModelMismatch("Rows of the ledger have changed.")
    checked_queries = [queries.meters(), queries.verify()]
    for name in sorted(model.meters(model.head)):
        checked_queries += [
            queries.totals(name, ALL_TIME),
            queries.explanation(name, None, ALL_TIME),
            queries.events(name),
            queries.closed_periods(name),
            queries.adjustments(name),
        ]
    for query in checked_queries:
        _check_query(simulation, metering, query)
    return len(checked_queries)


def _check_query(simulation: "Simulation", metering: Metering, query: Query) -> None:
    result = OperationResult(simulation.model, [simulation.model.head], [simulation.clock.now])
    result.value = query.run(metering)
    query.check(result)


def _check_earlier_result(simulation: "Simulation", metering: Metering) -> int:
    """Note a figure, and ask for one that was noted."""
    entries, model = simulation.earlier_results.entries, simulation.model
    name = simulation.rng.choice(sorted(model.meters(model.head)))
    entries.append((model.head, name, metering.totals(name, *ALL_TIME)))
    if len(entries) > MAX_NOTES:
        del entries[simulation.rng.randrange(len(entries))]
    position, name, earlier = simulation.rng.choice(entries)
    actual = metering.totals(name, *ALL_TIME, as_of=position)
    if actual != earlier:
        raise ModelMismatch(f"As of position {position}, {name!r} was {earlier!r}, and is {actual!r} now.")
    return 1
