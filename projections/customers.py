"""Numbers for customers: rows are kept by them, as a number is shorter than a name."""

from .rows import Rows


class CustomerNumbers(dict[str, int]):
    """The number of each customer that is asked for, looked up once; the next free one where it has none yet."""

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.new: dict[str, int] = {}
        self._rows = rows
        self._last = rows.last_customer_number()

    def __missing__(self, customer: str) -> int:
        number = self._rows.customer_number(customer)
        if number is None:
            self._last += 1
            number = self.new[customer] = self._last
        self[customer] = number
        return number
