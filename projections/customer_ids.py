"""Integer ids of customers: rows are stored by id, because an id is shorter than a name."""

from collections.abc import Sequence

from .ports import ReadModelReader

CACHE_SIZE = 100_000
MAX_IDS_BETWEEN_PROJECTIONS = 10_000
"""More ids are discarded at the end of a projection: 10,000 names of usual length take about 1 MB."""


class CustomerIdCache:
    """Caches the ids of stored customers between pages.

    They are valid in a transaction that finds `page_id`, as WrittenRows are: no other process has written since.
    """

    def __init__(self) -> None:
        self.page_id: str | None = None
        self._ids: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def ids_for(self, reader: ReadModelReader) -> "CustomerIdAllocator":
        """Return the customer ids of the reader's rows."""
        page_id = reader.page_id()
        if page_id != self.page_id or len(self) > CACHE_SIZE:
            self._ids.clear()
        self.page_id = page_id
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
