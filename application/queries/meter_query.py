"""A query of one meter: its usage in one consistent state of the read models, under one revision of its rules."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import cache, partial
from typing import NamedTuple

from ...domain.rules import Rules
from ...projections.dimensions import NO_GROUPS, DimensionFilter, DimensionGroups
from ...projections.models import AsOf, ProjectedMeter
from ...projections.ports import ReadModelReader
from ...projections.selected_usage import select_usage
from ...projections.usage_source import ProjectedUsage, ReparsedUsage, counts_same_records
from ...projections.usage_view import UsageView
from ..ledger.ledger import Ledger
from ..similar_names import meter_not_found
from ..validation import parse_as_of, require_event_name
from .dimension_query import Where, parse_dimension_query
from .freshness import FreshReadModels


class MeterQuery(NamedTuple):
    """The usage of one meter in one consistent state of the read models, under the rules of the query.

    `groups` are those of its dimension values that were queried.
    """

    view: UsageView
    revision: int
    resolve_position: Callable[[], int]
    as_of: AsOf | None
    groups: DimensionGroups = NO_GROUPS

    @property
    def position(self) -> int:
        """The last ledger position that the result includes. For an `as_of` time it is searched for in the ledger."""
        return self.resolve_position()

    @property
    def rules(self) -> Rules:
        """The rules that the totals are computed under."""
        return self.view.rules

    def customer_id(self, customer: str | None) -> int | None:
        """Return the id of a customer, 0 (which no customer has) if it has no usage, and None for all customers."""
        return None if customer is None else self.view.source.customer_id(customer) or 0


class MeterQueryFactory:
    """Opens queries of meters on read models that are up to date."""

    def __init__(self, ledger: Ledger, read_models: FreshReadModels) -> None:
        self._ledger = ledger
        self._read_models = read_models

    def session(self, *, accept_outdated_rules: bool = False) -> AbstractContextManager[ReadModelReader]:
        """Open a read session that is up to date. See `FreshReadModels.session`."""
        return self._read_models.session(accept_outdated_rules=accept_outdated_rules)

    @contextmanager
    def open(
        self,
        event_name: str,
        as_of: datetime | int | None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> Generator[MeterQuery]:
        """Check the arguments and open a query. Raises InvalidParameter, InvalidAsOf or MeterNotFound."""
        event_name, known = require_event_name(event_name), parse_as_of(as_of)
        with self.session() as read_models:
            yield self.meter_query(read_models, event_name, known, where, group_by)

    def meter_query(
        self,
        read_models: ReadModelReader,
        event_name: str,
        as_of: AsOf | None = None,
        where: Where | None = None,
        group_by: Sequence[str] = (),
    ) -> MeterQuery:
        """Return a query of a meter in an open session, under the rules in force at `as_of`.

        `where` and `group_by` name dimensions of these rules. Raises MeterNotFound or InvalidParameter.
        """
        meters = read_models.meters()
        meter = meters.get(event_name)
        if meter is None:
            raise meter_not_found(event_name, meters)
        in_force = meter.rules_as_of(as_of)
        resolve_position = cache(partial(self._resolve_position, read_models.position(), as_of))
        selected, groups = parse_dimension_query(in_force.rules, where, group_by)
        view = self.usage_view(read_models, meter, in_force.rules, selected)
        return MeterQuery(view, in_force.revision, resolve_position, as_of, groups)

    def usage_view(
        self,
        read_models: ReadModelReader,
        meter: ProjectedMeter,
        rules: Rules,
        selected: DimensionFilter | None = None,
    ) -> UsageView:
        """Return the usage of a meter under `rules`, with the `selected` dimension values.

        It is parsed from the ledger if it was projected under other rules.
        """
        if counts_same_records(meter.rules, rules):
            return UsageView(select_usage(ProjectedUsage(read_models, meter, rules), selected))
        projected = ProjectedUsage(read_models, meter)
        return UsageView(select_usage(ReparsedUsage(projected, rules, self._payloads), selected))

    def _resolve_position(self, head: int, as_of: AsOf | None) -> int:
        if as_of is None:
            return head
        if as_of.position is not None:
            return min(head, as_of.position)
        assert as_of.recorded_at is not None
        return self._ledger.position_at(as_of.recorded_at, head)

    def _payloads(self, positions: Iterable[int]) -> Mapping[int, Mapping[str, str]]:
        return {position: data.payload for position, (_, data) in self._ledger.meter_events_at(positions).items()}
