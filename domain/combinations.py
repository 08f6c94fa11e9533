"""Limits on combinations of dimension values, so that one customer can't flood a ledger with them.

Each combination is a row of totals for each hour or day. A value that differs in each event, such as a request id, is
therefore rejected as a dimension soon.
"""

from collections import OrderedDict
from typing import Protocol

from .acceptance_policy import AcceptancePolicy
from .errors import TooManyCombinations
from .rules import DimensionValues
from .timestamps import from_microseconds, to_iso

HOUR_MICROSECONDS = 3_600_000_000
MAX_COMBINATIONS = 200_000
"""The number of combinations that are held in memory, some 40 MB: those of the hours that were added last."""


class _Hour:
    """The combinations of one meter in one UTC hour, and the number of those of each customer.

    Only hashes are held, because customers and values can be long. If two combinations have the same hash, by a chance
    of one in a thousand million, one more than the limit is accepted.
    """

    __slots__ = ("combinations", "counts")

    def __init__(self) -> None:
        self.combinations: set[int] = set()
        self.counts: dict[int, int] = {}


class CombinationLimits(Protocol):
    """What limits the combinations of dimension values that are accepted."""

    def add(
        self, event_name: str, customer: str, occurred_at: int, values: DimensionValues, policy: AcceptancePolicy
    ) -> None:
        """Add the combination of an event. Raises TooManyCombinations if it is new and exceeds a limit."""
        ...


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
        key, customer_hash, combination = _keys(event_name, customer, occurred_at, values)
        hour = self._hours.get(key)
        if hour is not None and combination in hour.combinations:  # almost always
            return
        if policy.max_customer_combinations is None and policy.max_meter_combinations is None:
            return
        hour = hour or _Hour()
        _check_limits(hour, customer_hash, key[1], policy)
        hour = self._hours.setdefault(key, hour)  # only now, so that rejected events leave nothing
        hour.combinations.add(combination)
        hour.counts[customer_hash] = hour.counts.get(customer_hash, 0) + 1
        self._count += 1
        while self._count > self._max_held and self._hours:
            _, oldest = self._hours.popitem(last=False)
            self._count -= len(oldest.combinations)

    def check(
        self, event_name: str, customer: str, occurred_at: int, values: DimensionValues, policy: AcceptancePolicy
    ) -> None:
        """Raise the error that `add` would raise. Nothing is added."""
        key, customer_hash, combination = _keys(event_name, customer, occurred_at, values)
        hour = self._hours.get(key)
        if hour is not None and combination not in hour.combinations:
            _check_limits(hour, customer_hash, key[1], policy)


class PendingCombinations:
    """The combinations of one event on several meters, which are added together or not at all."""

    def __init__(self, combinations: DimensionCombinations) -> None:
        self._combinations = combinations
        self._pending: list[tuple[str, str, int, DimensionValues, AcceptancePolicy]] = []

    def add(
        self, event_name: str, customer: str, occurred_at: int, values: DimensionValues, policy: AcceptancePolicy
    ) -> None:
        """Check a combination, which `commit` adds. Raises TooManyCombinations."""
        self._combinations.check(event_name, customer, occurred_at, values, policy)
        self._pending.append((event_name, customer, occurred_at, values, policy))

    def clear(self) -> None:
        """Forget the combinations of an event that was rejected."""
        self._pending.clear()

    def commit(self) -> None:
        """Add the combinations of an event that was accepted."""
        for pending in self._pending:
            self._combinations.add(*pending)
        self._pending.clear()


def _keys(
    event_name: str, customer: str, occurred_at: int, values: DimensionValues
) -> tuple[tuple[str, int], int, int]:
    """Return the key of the meter and hour, the hash of the customer and that of the combination."""
    return (event_name, occurred_at // HOUR_MICROSECONDS), hash(customer), hash((customer, values))


def _check_limits(hour: _Hour, customer_hash: int, hour_number: int, policy: AcceptancePolicy) -> None:
    """Raise TooManyCombinations if the customer, or the meter, may have no more combinations in the hour."""
    limit = policy.max_customer_combinations
    if limit is not None and hour.counts.get(customer_hash, 0) >= limit:
        raise _too_many("customer", hour_number, limit)
    limit = policy.max_meter_combinations
    if limit is not None and len(hour.combinations) >= limit:
        raise _too_many("meter", hour_number, limit)


def _too_many(owner: str, hour: int, limit: int) -> TooManyCombinations:
    starts_at = to_iso(from_microseconds(hour * HOUR_MICROSECONDS))
    return TooManyCombinations(
        f"The event has a new combination of dimension values, but the {owner} has {limit} of them already in the hour "
        f"from {starts_at}. Use a dimension with fewer values, or raise the limit in the policy.",
        field="payload",
    )
