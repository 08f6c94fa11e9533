"""Limits on combinations of dimension values, so that one customer can't flood a ledger with them.

Each combination is a row of totals for each hour or day. A value that differs in each event, such as a request id, is
therefore rejected as a dimension soon.
"""

from collections import OrderedDict
from collections.abc import Collection

from .errors import TooManyCombinations
from .policy import AcceptancePolicy
from .rules import DimensionValues
from .timestamps import from_microseconds, to_iso

HOUR_MICROSECONDS = 3_600_000_000
MAX_COMBINATIONS = 200_000
"""The number of combinations that are held in memory, some 40 MB: those of the hours that were added last."""


class _Hour:
    """The combinations of one meter in one UTC hour, by customer, and their number."""

    __slots__ = ("by_customer", "count")

    def __init__(self) -> None:
        self.by_customer: dict[str, set[DimensionValues]] = {}
        self.count = 0


class DimensionCombinations:
    """The combinations of dimension values in the events that this process accepted, by meter and hour.

    Another process has its own, and so does a later one: the limits hold for each.
    """

    def __init__(self, max_held: int = MAX_COMBINATIONS) -> None:
        self._max_held = max_held
        self._hours: OrderedDict[tuple[str, int], _Hour] = OrderedDict()
        self._count = 0

    def add(
        self, event_name: str, customer: str, occurred_at: int, values: DimensionValues, policy: AcceptancePolicy
    ) -> None:
        """Add the combination of an event. Raises TooManyCombinations if it is new and exceeds a limit."""
        key = (event_name, occurred_at // HOUR_MICROSECONDS)
        hour = self._hours.get(key) or self._hours.setdefault(key, _Hour())
        combinations = hour.by_customer.setdefault(customer, set())
        if values in combinations:
            return
        _check(combinations, hour, key[1], policy)
        combinations.add(values)
        hour.count += 1
        self._count += 1
        while self._count > self._max_held:
            _, oldest = self._hours.popitem(last=False)
            self._count -= oldest.count

    def check(
        self, event_name: str, customer: str, occurred_at: int, values: DimensionValues, policy: AcceptancePolicy
    ) -> None:
        """Raise the error that `add` would raise. Nothing is added."""
        hour_number = occurred_at // HOUR_MICROSECONDS
        hour = self._hours.get((event_name, hour_number)) or _Hour()
        combinations = hour.by_customer.get(customer, ())
        if values not in combinations:
            _check(combinations, hour, hour_number, policy)


def _check(combinations: Collection[DimensionValues], hour: _Hour, hour_number: int, policy: AcceptancePolicy) -> None:
    """Raise TooManyCombinations if the customer of these combinations, or the meter, may have no more in the hour."""
    for owner, count, limit in (
        ("customer", len(combinations), policy.max_customer_combinations),
        ("meter", hour.count, policy.max_meter_combinations),
    ):
        if limit is not None and count >= limit:
            raise _too_many(owner, hour_number, limit)


def _too_many(owner: str, hour: int, limit: int) -> TooManyCombinations:
    starts_at = to_iso(from_microseconds(hour * HOUR_MICROSECONDS))
    return TooManyCombinations(
        f"The event has a new combination of dimension values, but the {owner} has {limit} of them already in the hour "
        f"from {starts_at}. Use a dimension with fewer values, or raise the limit in the policy.",
        field="payload",
    )
