"""Numbers for customers: rows are kept by them, as a number is shorter than a name."""

from .rows import Rows

MOST_REMEMBERED = 100_000


class KnownCustomers:
    """Numbers that were looked up for one page, for the pages that follow it in the same rows."""

    def __init__(self) -> None:
        self._of: tuple[int, int] | None = None
        self._numbers: dict[str, int] = {}

    def numbers(self, rows: Rows) -> "CustomerNumbers":
        """The numbers of customers in `rows`; all are looked up anew in other rows, or in such as were begun anew."""
        before, self._of = self._of, (rows.generation, rows.position())
        if before is None or before[0] != self._of[0] or before[1] > self._of[1]:
            self._numbers.clear()
        if len(self._numbers) > MOST_REMEMBERED:
            self._numbers.clear()
        return CustomerNumbers(rows, self._numbers)


class CustomerNumbers(dict[str, int]):
    """The number of each customer that is asked for, looked up once; the next free one where it has none yet."""

    def __init__(self, rows: Rows, known: dict[str, int]) -> None:
        super().__init__()
        self.new: dict[str, int] = {}
        self._rows = rows
        self._known = known
        self._last = self._last_kept = rows.last_customer_number()

    def __missing__(self, customer: str) -> int:
        number = self._known.get(customer) or self._kept(customer)
        if number is None:
            self._last += 1
            number = self.new[customer] = self._last  # not known before it is kept
        else:
            self._known[customer] = number
        self[customer] = number
        return number

    def _kept(self, customer: str) -> int | None:
        return self._rows.customer_number(customer) if self._last_kept else None
