"""Limits on combinations of dimension values: per customer and per meter, in each UTC hour."""

import tracemalloc
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta

import pytest
from tallybook.domain.acceptance_policy import AcceptancePolicy
from tallybook.domain.combinations import DimensionCombinations
from tallybook.domain.errors import TooManyCombinations
from tallybook.domain.formulas import Formula
from tallybook.domain.meter import Meter
from tallybook.domain.meter_event_input import MeterEventInput
from tallybook.domain.rules import Rules

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
NEXT_HOUR = NOON + timedelta(hours=1)


class Acceptor:
    """Accepts events of one meter with the dimension `model`."""

    def __init__(
        self, policy: AcceptancePolicy, combinations: DimensionCombinations, event_name: str = "calls"
    ) -> None:
        rules = Rules(formula=Formula.COUNT, customer_key="customer", dimension_keys=("model",))
        self._meter = Meter.configure(event_name, event_name, rules, at=NOON)
        self._policy = policy
        self._combinations = combinations

    def is_accepted(self, customer: str, model: str, at: datetime = NOON) -> bool:
        """Return whether an event is accepted; False if the customer or the meter has too many combinations."""
        accept = self._meter.acceptor(at=NEXT_HOUR, policy=self._policy, combinations=self._combinations)
        try:
            accept(MeterEventInput(self._meter.event_name, {"customer": customer, "model": model}, timestamp=at))
        except TooManyCombinations:
            return False
        return True


def test_a_customer_has_a_limited_number_in_an_hour() -> None:
    """Combinations that were accepted before are accepted again; other hours and customers have limits of their own."""
    acceptor = Acceptor(AcceptancePolicy(max_customer_combinations=2), DimensionCombinations())
    assert [acceptor.is_accepted("acme", model) for model in ("a", "b", "c", "a")] == [True, True, False, True]
    assert acceptor.is_accepted("acme", "c", NEXT_HOUR)
    assert acceptor.is_accepted("beta", "c")


def test_a_meter_has_a_limited_number_in_an_hour() -> None:
    """Of all of its customers together; another meter has a limit of its own."""
    policy, combinations = AcceptancePolicy(max_meter_combinations=3), DimensionCombinations()
    calls, seats = Acceptor(policy, combinations), Acceptor(policy, combinations, "seats")
    assert [calls.is_accepted(customer, "a") for customer in ("acme", "beta", "core", "delta")] == [True] * 3 + [False]
    assert seats.is_accepted("delta", "a")


def test_the_message_says_whose_limit_it_is_and_when() -> None:
    """And that the policy can raise it."""
    policy = AcceptancePolicy(max_customer_combinations=1)
    combinations = DimensionCombinations()
    occurred_at = int(NOON.timestamp()) * 1_000_000
    combinations.add("calls", "acme", occurred_at, ("a",), policy)
    with pytest.raises(TooManyCombinations, match=r"the customer has 1 of them .* 2026-11-10T12:00:00Z.* the policy"):
        combinations.add("calls", "acme", occurred_at, ("b",), policy)


def test_a_lifted_limit_counts_nothing() -> None:
    """So back-filling takes no memory."""
    lifted = AcceptancePolicy(max_customer_combinations=None, max_meter_combinations=None)
    combinations = DimensionCombinations()
    assert all(Acceptor(lifted, combinations).is_accepted("acme", str(number)) for number in range(200))
    limited = Acceptor(AcceptancePolicy(max_customer_combinations=1), combinations)
    assert limited.is_accepted("acme", "the first one that is counted")


@pytest.mark.parametrize(("max_held", "is_rejected"), [(2, False), (3, True)])
def test_a_limited_number_is_held(max_held: int, is_rejected: bool) -> None:
    """The hour that was added first is forgotten first."""
    policy, combinations = AcceptancePolicy(max_customer_combinations=2), DimensionCombinations(max_held)
    occurred_at = int(NOON.timestamp()) * 1_000_000
    for at, model in ((0, "a"), (0, "b"), (3_600_000_000, "a")):
        combinations.add("calls", "acme", occurred_at + at, (model,), policy)
    with pytest.raises(TooManyCombinations) if is_rejected else nullcontext():
        combinations.add("calls", "acme", occurred_at, ("c",), policy)


@pytest.mark.parametrize("max_combinations", [1, None])
def test_long_names_and_values_are_not_held(max_combinations: int | None) -> None:
    """Neither those of rejected events, of which there may be any number, nor those of accepted ones."""
    policy = AcceptancePolicy(max_customer_combinations=1, max_meter_combinations=max_combinations)
    acceptor = Acceptor(policy, DimensionCombinations())
    tracemalloc.start()
    try:
        accepted = [acceptor.is_accepted(f"{number:05000}", f"{number:05000}") for number in range(300)]
        held_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert accepted.count(True) == (max_combinations or 300)
    assert held_bytes < 300_000
