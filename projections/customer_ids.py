"""Integer ids of customers: rows are stored by id, because an id is shorter than a name."""

from collections.abc import Sequence

from .ports import ReadModelReader

CACHE_SIZE = 100_000


class CustomerIdCache:
    """Caches customer ids between the pages of one projection."""

    def __init__(self) -> None:
        self._generation_position: tuple[int, int] | None = None
        self._ids: dict[str, int] = {}

    def ids_for(self, reader: ReadModelReader) -> "CustomerIdAllocator":
        """Return the customer ids of the reader's rows. Another generation or a reset clears the cache."""
        previous, self._generation_position = self._generation_position, (reader.generation, reader.position())
        if (
            previous is None
            or previous[0] != self._generation_position[0]
            or previous[1] > self._generation_position[1]
        ):
            self._ids.clear()
        if len(self._ids) > CACHE_SIZE:
            self._ids.clear()
        return CustomerIdAllocator(reader, self._ids)


class CustomerIdAllocator:
    """Maps the customers of a page to ids, and allocates the next free ids to new customers."""

    def __init__(self, reader: ReadModelReader, cached_ids: dict[str, int]) -> None:
        self.new_ids: dict[str, int] = {}
        self._reader = reader
        self._cached_ids = cached_ids
        self._last_stored_id: int | None = None
        """The highest id, which is read if a customer is new."""

    def ids_of(self, customers: Sequence[str]) -> list[int]:
        """Return the id of each customer. New customers get ids in this order.

        All of them are looked up together: one by one, each would be a round trip to the database. The ids of new
        customers are not cached before they are stored.
        """
        cached_ids, new_ids = self._cached_ids, self.new_ids
        unknown = [customer for customer in customers if customer not in cached_ids and customer not in new_ids]
        if unknown and self._last_stored_id != 0:
            cached_ids.update(self._reader.customer_ids(unknown))
        for customer in unknown:
            if customer not in cached_ids and customer not in new_ids:
                new_ids[customer] = self._first_free_id() + len(new_ids)
        return [cached_ids.get(customer) or new_ids[customer] for customer in customers]

    def _first_free_id(self) -> int:
        if self._last_stored_id is None:
            self._last_stored_id = self._reader.last_customer_id()
        return self._last_stored_id + 1
