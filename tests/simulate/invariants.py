"""The checks after each step, and the full checks at intervals."""

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
    """Totals saved with their position: a query as of this position must return the same total later."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str, Any]] = []


def check_step(simulation: "Simulation", metering: Metering) -> int:
    """Check one random query, one total as of a saved position, and that no row has changed."""
    if not simulation.model.meters(simulation.model.head):
        return 0
    _check_query(simulation, metering, simulation.action_generator.query())
    return 1 + _check_earlier_result(simulation, metering)


def check_everything(simulation: "Simulation", metering: Metering) -> int:
    """Check all rows, all totals and queries, and a replay of the ledger."""
    model = simulation.model
    if simulation.location.rows(0) != model.rows:
        raise ModelMismatch("Stored rows of the ledger have changed.")
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
    """Save one total, and check one saved total."""
    entries, model = simulation.earlier_results.entries, simulation.model
    name = simulation.rng.choice(sorted(model.meters(model.head)))
    entries.append((model.head, name, metering.totals(name, *ALL_TIME)))
    if len(entries) > MAX_NOTES:
        del entries[simulation.rng.randrange(len(entries))]
    position, name, earlier = simulation.rng.choice(entries)
    actual = metering.totals(name, *ALL_TIME, as_of=position)
    if actual != earlier:
        raise ModelMismatch(f"As of position {position}, {name!r} was {earlier!r} and is now {actual!r}.")
    return 1
