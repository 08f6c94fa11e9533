"""Formatting of numbers, times and bars, and the display of progress."""

import io
import sys
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from tallybook.application import Progress
from tallybook.application.interfaces.cli import terminal
from tallybook.application.interfaces.cli.terminal import bars
from tallybook.application.interfaces.formatting import format_number, format_time, to_plain


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "-"),
        (1_234_567, "1,234,567"),
        (Decimal("-1234567.10"), "-1,234,567.10"),
        (Decimal("1E+6"), "1,000,000"),
        (Decimal("0.000000001"), "0.000000001"),
        (Decimal("1" + "0" * 40 + ".5"), "10" + ",000" * 13 + ".5"),
    ],
)
def test_numbers_have_separators_and_all_their_digits(value: Decimal | int | None, expected: str) -> None:
    """Numbers of any length are written without an exponent."""
    assert format_number(value) == expected


@pytest.mark.parametrize("text", ["0", "-0.5", "1.50", "0.00000001", "9" * 60 + ".25"])
def test_decimals_in_json_are_the_parsed_text(text: str) -> None:
    """Exponents are written out."""
    assert to_plain(Decimal(text)) == text
    assert to_plain(Decimal("1E+3")) == "1000"


def test_times_in_json_are_in_utc() -> None:
    """Times in any timezone are converted."""
    at = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    assert to_plain(at) == "2026-07-01T10:00:00Z"
    assert to_plain(at.replace(microsecond=5)) == "2026-07-01T10:00:00.000005Z"
    assert format_time(at) == "2026-07-01 10:00:00Z"
    assert format_time(at.astimezone(UTC), ZoneInfo("Europe/Berlin")) == "2026-07-01 12:00:00"


def test_bars_are_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolution is an eighth of a block; a value other than 0 is visible, and negative bars are light."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    values = [Decimal(value) for value in ("80", "40", "5", "0.01", "0", "-20")]
    assert bars(values, width=8) == ["█" * 8, "████ ".strip(), "▌", "▏", "", "░░"]
    assert bars([], width=8) == []
    assert bars([Decimal(0)], width=8) == [""]


def test_progress_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written to stderr if that is a terminal; otherwise nothing is written."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, is_drawn in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        with terminal.progress_bar("nothing") as advance:
            advance(2, 2)
        assert not stream.getvalue()
        with terminal.progress_bar("reading") as advance:
            advance(1, 2)
        assert ("reading" in stream.getvalue()) == is_drawn


def test_projection_progress_shows_position_rate_and_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are shown from the first page on."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "120")
    with terminal.projection_progress("rebuilding") as show_progress:
        show_progress(Progress(position=40_000, head=100_000, events_per_second=20_000.0))
    assert "position 40,000 of 100,000, 20,000 events/s, 3 s left" in screen.getvalue()
