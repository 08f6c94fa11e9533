"""Memory budgets: how many bytes of bodies or responses the server holds, in all and for each access key."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager


class BudgetExceeded(Exception):
    """There is no room for these bytes now."""


class MemoryBudget:
    """The bytes that may be held at once: `total_bytes` in all, `bytes_per_key` by one access key.

    The only body or response of a key is always admitted, so that keys that hold much can't exclude another one.
    """

    def __init__(self, total_bytes: int, bytes_per_key: int) -> None:
        self._total_bytes = total_bytes
        self._bytes_per_key = bytes_per_key
        self._held: Counter[str] = Counter()

    @contextmanager
    def reservation(self) -> Generator["MemoryReservation"]:
        """Return a reservation that is released at the end of the block."""
        reservation = MemoryReservation(self)
        try:
            yield reservation
        finally:
            reservation.release()

    def is_exhausted(self, key_id: str) -> bool:
        """Return whether a key holds as many bytes as it may."""
        return self._held[key_id] >= self._bytes_per_key

    def change(self, key_id: str, size: int, new_size: int, *, is_required: bool = False) -> None:
        """Hold `new_size` bytes in place of `size` for one body or response of a key.

        Raises BudgetExceeded if there is no room for them, unless they are required.
        """
        others, growth = self._held[key_id] - size, new_size - size
        is_over = others + new_size > self._bytes_per_key or self._held.total() + growth > self._total_bytes
        if growth > 0 and others and is_over and not is_required:
            raise BudgetExceeded
        self._held[key_id] = others + new_size
        if not self._held[key_id]:
            del self._held[key_id]


class MemoryReservation:
    """The bytes held for one body or response."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._key_id = ""
        self._size = 0

    def resize(self, key_id: str, size: int) -> None:
        """Hold `size` bytes for a key. Raises BudgetExceeded."""
        self._budget.change(key_id, self._size, size)
        self._key_id, self._size = key_id, size

    def require(self, key_id: str, size: int) -> None:
        """Hold `size` bytes for a key, also if there is no room for them."""
        self._budget.change(key_id, self._size, size, is_required=True)
        self._key_id, self._size = key_id, size

    def release(self) -> None:
        """Hold nothing any more."""
        self._budget.change(self._key_id, self._size, 0)
        self._size = 0
