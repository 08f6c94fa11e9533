"""Tables in a terminal of any width: every number is complete, and no line of a table is wrapped."""

import re
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from tallybook.application import AcceptancePolicy, Metering
from tallybook.application.interfaces.cli import tables
from tallybook.application.interfaces.cli.tables import display_width, fold

from .command_line import CommandLine

WIDTHS = (20, 40, 60, 72, 80, 100, 160)
MARCH = ("--period", "2024-03")
NUMBER = re.compile(r"(?<!\S)[-+]?\d[\d,]*(?:\.\d+)?(?!\S)")
LONGEST_FIGURE = len("+2,962,962,963,037.035")
COMMANDS = {
    "totals": ("totals", "t", *MARCH),
    "total": ("total", "t", "zeta", *MARCH),
    "summaries": ("summaries", "t", *MARCH),
    "hours": ("summaries", "t", *MARCH, "--window", "hour", "-z", "Europe/Berlin"),
    "events": ("events", "t", *MARCH),
    "explain": ("explain", "t", *MARCH),
    "explain one": ("explain", "t", "zeta", *MARCH),
    "periods": ("period", "list", "t"),
    "adjustments": ("period", "adjustments", "t", "--events"),
    "meters": ("meter", "list"),
    "meter": ("meter", "show", "t"),
    "rules over time": ("meter", "history", "t"),
    "generations": ("projection", "status"),
    "rules": ("rules", "change", "t", "--formula", "last"),
    "verify": ("verify",),
    "keys": ("key", "list"),
    "groups of a total": ("total", "d", *MARCH, "--group-by", "model", "--group-by", "region of the customer"),
    "groups of totals": ("totals", "d", *MARCH, "--group-by", "region of the customer"),
    "groups of summaries": ("summaries", "d", *MARCH, "--group-by", "model"),
    "dimensions": ("explain", "d", *MARCH, "--group-by", "model"),
}


@pytest.fixture(scope="module")
def tallybook(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """Create a ledger with long names and numbers, a closed period with an adjustment, and an access key."""
    line = CommandLine(tmp_path_factory.mktemp("narrow"))
    policy = AcceptancePolicy(max_age=None, cancel_window=None)
    with Metering.open(line.url, policy=policy) as metering:
        metering.meters.configure("t", display_name="Tokens of all of the models", customer_key="c", value_key="v")
        metering.access_keys.create(["read"], "a key with a name of several words", by="ops@example.com")
        values = {"a customer with a long name": "987654321012.345", "zeta": "-12345678.5", "東京の顧客": "1"}
        for customer, value in values.items():
            for hour in range(3):
                at = datetime(2024, 3, 10, hour, tzinfo=UTC)
                identifier = f"request-{customer}-{hour}-of-the-day"
                metering.record("t", {"c": customer, "v": value}, identifier=identifier, timestamp=at)
        optional_keys = ("model", "region of the customer")
        metering.meters.configure("d", customer_key="c", value_key="v", optional_dimension_keys=optional_keys)
        for number, model in enumerate(("a model with a long name", "中", "x")):
            payload = {"c": "zeta", "v": "98765432101.5", "model": model, "region of the customer": f"eu-{number}"}
            at = datetime(2024, 3, 11 + number, tzinfo=UTC)
            metering.record("d", payload, identifier=f"request-{number}", timestamp=at)
    line.run("period", "close", "t", "a customer with a long name", *MARCH)
    cancelled = "request-a customer with a long name-1-of-the-day"
    line.run("cancel", "t", cancelled, "--any-age", "--reason", "bytes, not tokens, as usual", "--on-behalf-of", "ops")
    return line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_number_is_complete_at_any_width(tallybook: CommandLine, name: str) -> None:
    """All numbers of a wide terminal are shown, each on one line; only a line of one word may be too long."""
    tallybook.environment["COLUMNS"] = "1000"
    wide = tallybook.run(*COMMANDS[name]).stdout
    for width in WIDTHS:
        tallybook.environment["COLUMNS"] = str(width)
        narrow = tallybook.run(*COMMANDS[name]).stdout.splitlines()
        assert Counter(NUMBER.findall(wide)) - Counter(NUMBER.findall("\n".join(narrow))) == Counter(), width
        if width >= LONGEST_FIGURE:
            tabular = [line for line in narrow if re.match(r"[─ ]|\S.*   ", line) and "tallybook " not in line]
            too_long = [line for line in tabular if display_width(line) > width and " " in line.strip()]
            assert too_long == [], width


@pytest.mark.parametrize("width", WIDTHS)
def test_bars_are_never_wrapped(tallybook: CommandLine, width: int) -> None:
    """Bars become shorter, and are omitted if there is no room."""
    tallybook.environment["COLUMNS"] = str(width)
    lines = tallybook.lines(*COMMANDS["summaries"])
    bars = [re.sub("[^█▏▎▍▌▋▊▉░]", "", line) for line in lines]
    assert max(map(display_width, lines[1:])) <= max(width, LONGEST_FIGURE + 2)
    assert (max(map(len, bars)) > 0) == (width >= 60)


def test_names_are_folded_before_rows_become_blocks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The widest column is folded first, and numbers are never folded."""
    rows = [("acme incorporated of everywhere", "1,000.5"), ("zeta", "2")]
    outputs: list[str] = []
    for width in ("60", "24", "17"):
        monkeypatch.setenv("COLUMNS", width)
        tables.table(("customer", "value"), rows, right=("value",))
        outputs.append(capsys.readouterr().out)
    assert outputs == [
        "customer                            value\n" + "─" * 41 + "\n"
        "acme incorporated of everywhere   1,000.5\nzeta                                    2\n",
        "customer           value\n" + "─" * 24 + "\nacme             1,000.5\nincorporated\nof everywhere\n"
        "zeta                   2\n",
        "customer\n  acme\n  incorporated of\n  everywhere\nvalue     1,000.5\n\ncustomer  zeta\nvalue     2\n",
    ]


def test_a_number_that_is_wider_than_the_first_ones_is_complete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Column widths are computed from the first rows, so that a long table is printed while it is read."""
    monkeypatch.setenv("COLUMNS", "40")
    rows = (("name", "1" * (1 if number < tables.SAMPLE_ROWS else 30)) for number in range(tables.SAMPLE_ROWS + 1))
    tables.table(("customer", "value"), rows, right=("value",))
    assert capsys.readouterr().out.splitlines()[-1] == f"name       {'1' * 30}"


def test_bars_follow_the_first_line_of_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row without a value has no bar."""
    monkeypatch.setenv("COLUMNS", "24")
    tables.table(("name", "value"), [("東京", "2"), ("b", "")], right=("value",), bar_values=[Decimal(2), None])
    assert capsys.readouterr().out == "name   value\n" + "─" * 24 + "\n東京       2   █████████\nb\n"


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 5, [""]),
        ("abc def", 7, ["abc def"]),
        ("abc def", 5, ["abc", "def"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("at 2024-03-10 10:00:00Z by ops", 8, ["at", "2024-03-10", "10:00:00Z", "by ops"]),
        ("1,234,567.5", 4, ["1,234,567.5"]),
        ("東京の顧客", 4, ["東京", "の顧", "客"]),
        ("東京", 1, ["東", "京"]),
    ],
)
def test_text_is_folded_at_spaces_and_numbers_are_not(text: str, width: int, lines: list[str]) -> None:
    """A word that is too long is divided, unless it is a number or a time."""
    assert fold(text, width) == lines


def test_the_width_of_a_pipe_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that reads the output gets no folded cells."""
    line = CommandLine(tmp_path)
    line.environment["COLUMNS"] = ""
    monkeypatch.delenv("COLUMNS", raising=False)
    line.run("meter", "configure", "t", "--display-name", "n" * 100)
    assert any("n" * 100 in text for text in line.lines("meter", "list"))
