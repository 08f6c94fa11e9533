"""Integer ids of customers: rows are stored by id, because an id is shorter than a name."""

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


class CustomerIdAllocator(dict[str, int]):
    """Maps customers to ids: looks each one up once, and allocates the next free id to a new customer."""

    def __init__(self, reader: ReadModelReader, cached_ids: dict[str, int]) -> None:
        super().__init__()
        self.new_ids: dict[str, int] = {}
        self._reader = reader
        self._cached_ids = cached_ids
        self._last_stored_id: int | None = None
        """The highest id, which is read if a customer is new."""

    def __missing__(self, customer: str) -> int:
        customer_id = self._cached_ids.get(customer) or self._stored_id(customer)
        if customer_id is None:
            if self._last_stored_id is None:
                self._last_stored_id = self._reader.last_customer_id()
            # not cached before it is stored
            customer_id = self.new_ids[customer] = self._last_stored_id + len(self.new_ids) + 1
        else:
            self._cached_ids[customer] = customer_id
        self[customer] = customer_id
        return customer_id

    def _stored_id(self, customer: str) -> int | None:
        return None if self._last_stored_id == 0 else self._reader.customer_id(customer)
