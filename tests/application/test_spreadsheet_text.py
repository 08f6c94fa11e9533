"""Text in CSV that a spreadsheet must not evaluate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.spreadsheet_text import escape_formulas

SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"
SPACES = ("", " ", "   ", "\xa0", "\u3000", "\ufeff", "\u200b", "\x0b", "\x00")


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("spaces", SPACES)
def test_a_formula_gets_an_apostrophe(sign: str, spaces: str) -> None:
    """At the start, also after spaces, and wherever a spreadsheet may start another cell."""
    formula = f"{spaces}{sign}1"
    assert escape_formulas(formula) == f"'{formula}"
    for separator in (";", "\t", "\n", "\r", "\r\n"):
        assert escape_formulas(f"a{separator}{formula}") == f"a{separator}'{formula}"


@pytest.mark.parametrize(
    "text", ["", "a", "a=1", "a-b", "a -b", "2026-03-01", "a,=1", "a; b", "a\nb", "cus_1@example.com"]
)
def test_other_text_stays(text: str) -> None:
    """A sign inside a word is no formula; a comma separates cells only outside of quotes."""
    assert escape_formulas(text) == text


@pytest.mark.parametrize("text", ["\t", "\r", "\n", "\ta", "'", "'=1", "a;'b"])
def test_text_that_looks_escaped_or_empty_is_escaped_too(text: str) -> None:
    """So that it isn't taken for another text."""
    assert escape_formulas(text) == ("a;''b" if text == "a;'b" else f"'{text}")


@given(st.text(alphabet="'=a ;\n\t"), st.text(alphabet="'=a ;\n\t"))
def test_different_texts_become_different_cells(text: str, other_text: str) -> None:
    """Nothing is lost."""
    assert (escape_formulas(text) == escape_formulas(other_text)) == (text == other_text)


def test_a_long_text_takes_little_time() -> None:
    """The time is proportional to the length."""
    for character in " \n;\x00":
        text = character * 1_000_000
        assert escape_formulas(text).count(character) == 1_000_000
