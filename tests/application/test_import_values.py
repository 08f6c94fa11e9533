"""Numbers in usage files."""

import pytest
from tallybook.application.usage_import.values import NumberFormat, UnclearValue


@pytest.mark.parametrize(
    ("written", "decimal", "thousands", "read"),
    [
        ("12", None, None, "12"),
        ("-12.50", None, None, "-12.50"),
        ("12,50", ",", None, "12.50"),
        ("1.234.567,50", ",", ".", "1234567.50"),
        ("1,234,567.50", ".", ",", "1234567.50"),
        ("1,234", None, ",", "1234"),
        ("1.234", ",", ".", "1234"),
        ("12", ",", ".", "12"),
        ("1 234,5", ",", " ", "1234.5"),
        ("1\u00a0234,5", ",", " ", "1234.5"),
        ("1\u202f234\u202f567", ",", " ", "1234567"),
        ("1'234.50", None, "'", "1234.50"),
        ("1\u2019234.50", None, "'", "1234.50"),
        ("12.50-", None, None, "-12.50"),
        ("12,50 -", ",", None, "-12.50"),
        ("(1,234.50)", None, ",", "-1234.50"),
        (" 12 ", None, None, "12"),
        ("1e3", None, None, "1e3"),
        ("--5", None, None, "--5"),
        ("n/a", ",", ".", "n/a"),
        ("EUR 5", None, None, "EUR 5"),
    ],
)
def test_a_number_becomes_plain_decimal_text(
    written: str, decimal: str | None, thousands: str | None, read: str
) -> None:
    """Text that is no number stays as it is, and is rejected as a value."""
    assert NumberFormat(decimal, thousands).parse(written, "value") == read


@pytest.mark.parametrize(
    ("written", "decimal", "thousands", "named"),
    [
        ("12,50", None, None, "decimal=',' or thousands=','"),
        ("1,234", None, None, "decimal=',' or thousands=','"),
        ("1.234,50", None, None, "decimal=',' and thousands='.'"),
        ("1,234.50", None, None, "decimal='.' and thousands=','"),
        ("1.234.567", None, None, "thousands='.' and decimal=','"),
        ("1,234,567", None, None, "thousands=','"),
        ("1 234", None, None, "thousands=' '"),
        ("1.234,50", ",", None, "thousands='.'"),
        ("12.50", ",", None, "thousands='.'"),
        ("12,5", None, ",", "decimal=','"),
        ("1.23", ",", ".", "thousands='.'"),
        ("12,34,567", None, ",", "thousands=','"),
    ],
)
def test_a_number_that_needs_another_option_names_it(
    written: str, decimal: str | None, thousands: str | None, named: str
) -> None:
    """A comma may be a decimal mark or stand between thousands; groups have three digits."""
    with pytest.raises(UnclearValue) as exc_info:
        NumberFormat(decimal, thousands).parse(written, "value")
    assert named in exc_info.value.message


@pytest.mark.parametrize(
    ("written", "is_unclear"), [("1.234", True), ("12.5", False), ("1.2345", False), ("0.123", False)]
)
def test_a_point_in_a_file_with_semicolons_may_stand_between_thousands(written: str, is_unclear: bool) -> None:
    """Such files come from where the comma is the decimal mark; a decimal mark that is named decides."""
    assert NumberFormat(".", is_semicolon_separated=True).parse(written, "value") == written
    numbers = NumberFormat(is_semicolon_separated=True)
    if is_unclear:
        with pytest.raises(UnclearValue, match=r"decimal='\.'"):
            numbers.parse(written, "value")
    else:
        assert numbers.parse(written, "value") == written
