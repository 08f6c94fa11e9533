"""Text in CSV files that people open in a spreadsheet."""

import re

_FORMULA_START = re.compile(
    r"""
    (?: \A | (?<=[;\t\r\n]) )                  # the text, or what a spreadsheet may take for the next cell
    (?= '                                      # text that is escaped or looks so
      | (?: [^\S;\t\r\n] | [\0-\x08\x0e-\x1f\u200b\u2060\ufeff] )*  # spaces and characters that aren't shown
        [=+\-@\uff1d\uff0b\uff0d\uff20]        # the signs of formulas, and their full-width forms
    )
    | \A (?= [\t\r\n] )
    """,
    re.VERBOSE,
)

_ESCAPED = re.compile(r"(?:\A|(?<=[;\t\r\n]))'")


def escape_formulas(text: str) -> str:
    """Return text that a spreadsheet doesn't evaluate: with an apostrophe in front of each possible formula.

    A formula starts with = + - @ or a full-width form of these. Spreadsheets ignore spaces before it. They may split a
    cell at a semicolon, a tab or a line break, whatever the separator of the file is, so a formula may start there too.
    Text that starts with a tab or a line break, and each part that starts with an apostrophe, also gets an apostrophe,
    so that different texts never become the same cell.
    Source: OWASP, "CSV Injection".
    """
    return _FORMULA_START.sub("'", text)


def unescape_formulas(text: str) -> str:
    """Return text as it was before `escape_formulas`."""
    return _ESCAPED.sub("", text)
