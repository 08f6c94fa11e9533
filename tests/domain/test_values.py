"""Values: plain decimal text, exact, of at most 15 significant digits."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application import AcceptancePolicy, Metering, TallybookError
from tallybook.domain import quantities
from tallybook.domain.errors import InvalidValue
from tallybook.domain.quantities import EXACT, billable, quantity

from ..notation import Clock

NUMBERS = {
    "0": "0", "25": "25", "-25": "-25", "0.5": "0.5", "-0.5": "-0.5", "007": "7", "-0": "0", "-0.0": "0.0",
    "1.50": "1.50", "0.000000000000000000001": "1E-21", "123456789012345": "123456789012345",
}  # fmt: skip

NOT_NUMBERS = [
    "", " ", "NaN", "nan", "sNaN", "Infinity", "-Infinity", "inf", "1e3", "1E3", "1e-3", "+1", "+", "-", "--1", "1-",
    "1,000", "1_000", "1 000", " 1", "1 ", "1\n", "\n1", "1\0", "\t1", ".5", "5.", "-.5", ".", "1.2.3", "0x10", "1/2",
    "true", "True", "None", "null", "ten", "$1", "1%", "0b1", "1l", "1.0f",
    "\N{ARABIC-INDIC DIGIT ONE}", "\N{FULLWIDTH DIGIT ONE}", "\N{SUPERSCRIPT TWO}", "\N{ROMAN NUMERAL EIGHT}",
    "\N{MINUS SIGN}1", "1\N{ARABIC DECIMAL SEPARATOR}5",
]  # fmt: skip


@pytest.mark.parametrize(("text", "number"), NUMBERS.items())
def test_plain_decimal_text_is_a_number(text: str, number: str) -> None:
    """Digits with an optional leading minus and fraction; a reported -0 is 0."""
    assert str(quantity(text, "value")) == number


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_anything_else_is_refused(text: str) -> None:
    """No exponent, no plus, no NaN, no separators, no spaces, no digits but 0 to 9."""
    with pytest.raises(InvalidValue) as refused:
        quantity(text, "tokens")
    assert (refused.value.code, refused.value.field, refused.value.value) == ("payload_invalid_value", "tokens", text)


@given(st.text(max_size=6))
def test_whatever_is_accepted_is_what_it_says(text: str) -> None:
    """Any text is refused, or holds ASCII digits, minus and point only and is that very number."""
    try:
        number = quantity(text, "value")
    except InvalidValue:
        return
    assert set(text) <= set("-.0123456789")
    assert number.is_finite()
    assert number == Decimal(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9))
def test_any_plain_number_is_accepted(number: Decimal) -> None:
    """Each decimal in plain notation comes back as itself, digit for digit."""
    assert format(quantity(format(abs(number), "f"), "value"), "f") == format(abs(number), "f")


def test_few_numbers_are_remembered_and_short_ones_only() -> None:
    """However many different values are reported, and however long they are, the memory that this takes is small."""
    for number in range(70_000):
        assert quantity(str(number), "value") == number
    assert len(quantities.NUMBERS) <= 65_536
    long = "9" * 5_000
    assert quantity(long, "value") == Decimal(long)
    assert long not in quantities.NUMBERS


DIGITS = {
    "123456789012345": None, "-123456789012345": None, "12345678901234.5": None, "0.123456789012345": None,
    "0000000000000000000001": None, "0.0000000000000000000001": None, "-0.00": None, "000000000000000000": None,
    "1234567890123456": 16, "-1234567890123456": 16, "123456789012345.0": 16, "1.000000000000000": 16,
    "1000000000000000": 16, "0.1234567890123456": 16,
}  # fmt: skip


@pytest.mark.parametrize(("text", "digits"), DIGITS.items())
def test_at_most_15_significant_digits(metering: Metering, text: str, digits: int | None) -> None:
    """Zeros before the first other digit are not significant, zeros at the end are; 15 are accepted, 16 refused."""
    metering.configure_meter("calls", customer_key="customer")
    (receipt,) = metering.record_many([{"event_name": "calls", "payload": {"customer": "acme", "value": text}}])
    if digits is None:
        assert receipt.outcome == "accepted"
        return
    assert isinstance(receipt.error, TallybookError)
    assert receipt.error.code == "meter_event_value_too_many_digits"
    assert f"{digits} significant digits" in receipt.error.message


def test_digits_are_a_policy(clock: Clock) -> None:
    """The limit can be set, and lifted: then any number of digits is kept."""
    digits = "9" * 60
    report = {"event_name": "calls", "payload": {"customer": "acme", "value": digits}}
    for max_digits, outcome in ((60, "accepted"), (59, "rejected"), (None, "accepted")):
        with Metering.open("sqlite://", policy=AcceptancePolicy(max_digits=max_digits), clock=clock) as metering:
            metering.configure_meter("calls", customer_key="customer")
            assert [one.outcome for one in metering.record_many([report])] == [outcome]


def test_a_count_meter_s_value_has_15_digits_too(metering: Metering) -> None:
    """A value that is given is checked, whatever the formula."""
    metering.configure_meter("calls", formula="count", customer_key="customer")
    (receipt,) = metering.record_many(
        [{"event_name": "calls", "payload": {"customer": "acme", "value": "1234567890123456"}}]
    )
    assert receipt.error is not None
    assert receipt.error.code == "meter_event_value_too_many_digits"


def test_arithmetic_never_rounds() -> None:
    """A sum beyond any usual precision keeps its smallest digit."""
    assert str(EXACT.add(Decimal("9" * 60), Decimal("0." + "0" * 59 + "1"))) == "9" * 60 + "." + "0" * 59 + "1"


@pytest.mark.parametrize(("total", "billed"), [("3", "3"), ("0", "0"), ("-3", "0"), ("-0.01", "0"), ("0.01", "0.01")])
def test_a_negative_total_bills_0(total: str, billed: str) -> None:
    """What is billed is the total, and never less than 0."""
    assert str(billable(Decimal(total))) == billed
