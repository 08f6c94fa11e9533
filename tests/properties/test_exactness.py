"""Totals are exact for numbers of any size and any number of digits."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from .histories import BEGINNING, MeterRules, open_ledger
from .test_queries import ALL_TIME

RAW_SUM = MeterRules("sum")
LONG = st.from_regex(r"-?[0-9]{1,60}\.[0-9]{1,60}", fullmatch=True).filter(str.isascii)


@given(st.lists(LONG, min_size=1, max_size=20), st.integers(1, 5))
def test_a_sum_of_any_decimals_is_exact(values: list[str], query_interval: int) -> None:
    """Values of 120 digits add up exactly, through every merge of buckets and every page."""
    with open_ledger([RAW_SUM]) as (metering, _):
        for number, value in enumerate(values):
            payload = {"customer": "acme", "value": value}
            metering.record(RAW_SUM.name, payload, timestamp=BEGINNING.replace(hour=number))
            if number % query_interval == 0:
                metering.catch_up()
        total = metering.total(RAW_SUM.name, "acme", *ALL_TIME)
        assert Fraction(total.sum) == sum(map(Fraction, values))
        assert total.last is not None
        assert Fraction(total.last) == Fraction(values[-1])


def test_a_sum_of_very_many_digits() -> None:
    """A total of 5,000 digits is exact."""
    large = "9" * 4_999
    with open_ledger([RAW_SUM]) as (metering, _):
        for value in (large, "1", "0." + "0" * 40 + "1"):
            metering.record(RAW_SUM.name, {"customer": "acme", "value": value}, timestamp=BEGINNING)
        total = metering.total(RAW_SUM.name, "acme", *ALL_TIME)
        assert format(total.sum, "f") == "1" + "0" * 4_999 + "." + "0" * 40 + "1"
        assert total.value == total.sum
