"""Memory budgets of bodies and responses."""

from contextlib import suppress

import pytest
from tallybook.application.interfaces.http.memory_budget import BudgetExceeded, MemoryBudget, MemoryReservation


def reserve(budget: MemoryBudget, key: str, size: int) -> MemoryReservation:
    """Return a reservation of `size` bytes."""
    reservation = MemoryReservation(budget)
    reservation.resize(key, size)
    return reservation


def test_one_key_has_a_share() -> None:
    """A key that holds its share gets no more until it releases some; other keys are not affected."""
    budget = MemoryBudget(100, 30)
    first = reserve(budget, "a", 20)
    with pytest.raises(BudgetExceeded):
        reserve(budget, "a", 11)
    assert not budget.is_exhausted("a")
    reserve(budget, "a", 10)
    assert budget.is_exhausted("a")
    reserve(budget, "b", 30)
    first.release()
    reserve(budget, "a", 20)


def test_all_keys_share_a_total() -> None:
    """Above it a key may still hold one body, so that other keys cannot exclude it."""
    budget = MemoryBudget(50, 30)
    reserve(budget, "a", 30)
    reserve(budget, "b", 19)
    with pytest.raises(BudgetExceeded):
        reserve(budget, "b", 2)
    reserve(budget, "c", 40)
    with pytest.raises(BudgetExceeded):
        reserve(budget, "c", 1)


def test_a_body_grows_and_is_released() -> None:
    """The only body of a key may grow above its share; at the end of a block nothing is held, also after an error."""
    budget = MemoryBudget(50, 30)
    with suppress(KeyError), budget.reservation() as reservation:
        for size in (10, 30, 60):
            reservation.resize("a", size)
        raise KeyError
    reserve(budget, "a", 15)
    reserve(budget, "a", 15)
