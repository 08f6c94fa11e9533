"""Values: plain decimal text, exact, of at most 15 significant digits."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application import AcceptancePolicy, Metering, TallybookError
from tallybook.domain import Rules, decimals
from tallybook.domain.decimals import EXACT_CONTEXT, canonical, parse_decimal
from tallybook.domain.errors import InvalidValue

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
    """Digits with an optional leading minus and fraction; -0 is 0."""
    assert str(parse_decimal(text, "value")) == number


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_anything_else_is_rejected(text: str) -> None:
    """No exponent, no plus, no NaN, no separators, no spaces, no digits but 0 to 9."""
    with pytest.raises(InvalidValue) as exc_info:
        parse_decimal(text, "tokens")
    assert (exc_info.value.code, exc_info.value.field, exc_info.value.value) == (
        "payload_invalid_value",
        "tokens",
        text,
    )


@given(st.text(max_size=6))
def test_accepted_text_parses_to_its_value(text: str) -> None:
    """Any text is rejected, or contains only ASCII digits, minus and point and equals the number."""
    try:
        number = parse_decimal(text, "value")
    except InvalidValue:
        return
    assert set(text) <= set("-.0123456789")
    assert number.is_finite()
    assert number == Decimal(text)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9))
def test_any_plain_number_is_accepted(number: Decimal) -> None:
    """Each decimal in plain notation is parsed exactly, digit for digit."""
    assert format(parse_decimal(format(abs(number), "f"), "value"), "f") == format(abs(number), "f")


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("5", "5"), ("5.0", "5"), ("5.00", "5"), ("50", "50"), ("0.50", "0.5"), ("-0.50", "-0.5"), ("0.00", "0"),
        ("0.0000000", "0"), ("0.0000001", "1E-7"), ("0.00000010", "1E-7"), ("1" + "0" * 40, "1" + "0" * 40),
    ],
)  # fmt: skip
def test_equal_numbers_have_one_canonical_form(text: str, form: str) -> None:
    """Python writes small numbers with an exponent; they lose trailing zeros too."""
    assert str(canonical(Decimal(text))) == form


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12), st.integers(0, 9))
def test_trailing_zeros_do_not_affect_the_canonical_form(number: Decimal, zeros: int) -> None:
    """A number keeps its value and has the fewest digits."""
    text = format(number, "f")
    with_zeros = canonical(parse_decimal(text + "0" * zeros if "." in text else text, "value"))
    assert with_zeros == number
    assert str(with_zeros) == str(canonical(parse_decimal(text, "value")))


def test_few_and_only_short_numbers_are_cached() -> None:
    """The memory of the cache is limited for any number and length of values."""
    for number in range(70_000):
        assert parse_decimal(str(number), "value") == number
    assert len(decimals.DECIMAL_CACHE) <= 65_536
    long = "9" * 5_000
    assert parse_decimal(long, "value") == Decimal(long)
    assert long not in decimals.DECIMAL_CACHE


DIGITS = {
    "123456789012345": None, "-123456789012345": None, "12345678901234.5": None, "0.123456789012345": None,
    "0000000000000000000001": None, "0.0000000000000000000001": None, "-0.00": None, "000000000000000000": None,
    "1234567890123456": 16, "-1234567890123456": 16, "123456789012345.0": 16, "1.000000000000000": 16,
    "1000000000000000": 16, "0.1234567890123456": 16,
}  # fmt: skip


@pytest.mark.parametrize(("text", "digits"), DIGITS.items())
def test_at_most_15_significant_digits(metering: Metering, text: str, digits: int | None) -> None:
    """Leading zeros are not significant, trailing zeros are; 15 digits are accepted, 16 rejected."""
    metering.meters.configure("calls", customer_key="customer")
    (receipt,) = metering.record_many([{"event_name": "calls", "payload": {"customer": "acme", "value": text}}])
    if digits is None:
        assert receipt.outcome == "accepted"
        return
    assert isinstance(receipt.error, TallybookError)
    assert receipt.error.code == "meter_event_value_too_many_digits"
    assert f"{digits} significant digits" in receipt.error.message


def test_digits_are_a_policy(clock: Clock) -> None:
    """The limit can be changed or removed; without it any number of digits is stored."""
    digits = "9" * 60
    meter_event = {"event_name": "calls", "payload": {"customer": "acme", "value": digits}}
    for max_digits, outcome in ((60, "accepted"), (59, "rejected"), (None, "accepted")):
        with Metering.open("sqlite://", policy=AcceptancePolicy(max_digits=max_digits), clock=clock) as metering:
            metering.meters.configure("calls", customer_key="customer")
            assert [receipt.outcome for receipt in metering.record_many([meter_event])] == [outcome]


def test_a_count_meter_s_value_has_15_digits_too(metering: Metering) -> None:
    """A present value is checked under any formula."""
    metering.meters.configure("calls", formula="count", customer_key="customer")
    (receipt,) = metering.record_many(
        [{"event_name": "calls", "payload": {"customer": "acme", "value": "1234567890123456"}}]
    )
    assert receipt.error is not None
    assert receipt.error.code == "meter_event_value_too_many_digits"


def test_arithmetic_never_rounds() -> None:
    """A sum beyond the usual precision is exact to the last digit."""
    assert str(EXACT_CONTEXT.add(Decimal("9" * 60), Decimal("0." + "0" * 59 + "1"))) == "9" * 60 + "." + "0" * 59 + "1"


@pytest.mark.parametrize(("total", "billed"), [("3", "3"), ("0", "0"), ("-3", "0"), ("-0.01", "0"), ("0.01", "0.01")])
def test_a_negative_total_bills_0(total: str, billed: str) -> None:
    """The billable quantity is the total, but at least 0."""
    assert str(Rules().billable(Decimal(total))) == billed
