"""Displayed names and times: different values look different."""

import json
from itertools import combinations
from pathlib import Path

import pytest
from tallybook.application import AcceptancePolicy, Metering
from tallybook.application.interfaces.cli.terminal import format_name
from tallybook.application.interfaces.formatting import to_json

from .command_line import CommandLine
from .october_ledger import record_tokens

NAMES = (
    "acme corp", " acme corp", "acme corp ", "acme  corp", "acme   corp", "acme\xa0corp", "acme\u200bcorp", "acmecorp",
    "acme\u2009corp", "acme\tcorp", r"acme\x20corp", r"acme corp\x20", "acme corp\n", "\ufeffacme corp",
    "acme\u202ecorp", "acme\\corp", "acme\\\\corp",
)  # fmt: skip


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "tokens", "--customer-key", "customer", "--value-key", "tokens")
    return line


def test_names_that_differ_only_by_spaces_look_different() -> None:
    """Invisible spaces are escaped, and no name looks like the escaped form of another name."""
    shown = [format_name(name) for name in NAMES]
    for (first, other), (first_shown, other_shown) in zip(combinations(NAMES, 2), combinations(shown, 2), strict=True):
        assert first_shown.split() != other_shown.split(), (first, other)
    assert all(name.isprintable() for name in shown)
    assert shown[:4] == ["acme corp", r"\x20acme corp", r"acme corp\x20", r"acme \x20corp"]


def test_commands_escape_names(tallybook: CommandLine) -> None:
    """Names are escaped in tables and in headings."""
    with Metering.open(tallybook.url, policy=AcceptancePolicy(max_age=None)) as metering:
        for name in ("acme", "acme ", " acme"):
            metering.record("tokens", {"customer": name, "tokens": "1"}, identifier=f"{name}-1 ")
    assert [line.split()[0] for line in tallybook.lines("totals", "tokens")[3:-1]] == [r"\x20acme", "acme", r"acme\x20"]
    assert tallybook.lines("total", "tokens", "acme ")[0].startswith(r"tokens, acme\x20, ")
    assert r"acme -1\x20" in tallybook.run("explain", "tokens").stdout
    assert (
        r"acme-1\x20"
        in tallybook.run("record", "tokens", "customer=acme", "tokens=1", "--identifier", "acme-1 ").stdout
    )


def test_times_of_a_repeated_hour_show_their_offset(tallybook: CommandLine) -> None:
    """02:30 occurs twice on 27 October 2024 in Berlin; other times have no offset."""
    for number, at in enumerate(("2024-10-26T22:30:00", "2024-10-27T00:30:00", "2024-10-27T01:30:00")):
        record_tokens(tallybook, f"e{number}", "acme", "1", at)
    range_options = ("tokens", "acme", "--period", "2024-10-27", "-z", "Europe/Berlin")
    for command in ("events", "explain"):
        lines = tallybook.lines(command, *range_options)[3:6]
        assert [line.partition("   ")[0] for line in lines] == [
            "2024-10-27 00:30:00", "2024-10-27 02:30:00+02:00", "2024-10-27 02:30:00+01:00",
        ]  # fmt: skip
    lines = tallybook.lines("summaries", *range_options, "--window", "hour")[3:]
    assert [line.partition("   ")[0] for line in lines if line != "..."] == [
        "2024-10-27 00:00 CEST", "2024-10-27 02:00+02:00 CEST", "2024-10-27 02:00+01:00 CET",
    ]  # fmt: skip


def test_a_repeated_hour_may_have_one_name(tallybook: CommandLine) -> None:
    """On 26 October 2014 in Moscow, both hours are MSK with different offsets."""
    for number, at in enumerate(("2014-10-25T21:30:00", "2014-10-25T22:30:00")):
        record_tokens(tallybook, f"e{number}", "acme", "1", at)
    arguments = ("summaries", "tokens", "acme", "--period", "2014-10-26", "-z", "Europe/Moscow", "--window", "hour")
    assert [line.partition("   ")[0] for line in tallybook.lines(*arguments)[3:]] == [
        "2014-10-26 01:00+04:00 MSK", "2014-10-26 01:00+03:00 MSK",
    ]  # fmt: skip


def test_json_escapes_invisible_characters(tallybook: CommandLine) -> None:
    """Control and bidirectional characters can't act on the terminal; the values stay the same."""
    for name in NAMES:
        text = to_json({"name": name})
        assert text.replace("\n", "").isprintable()
        assert json.loads(text) == {"name": name}
    hidden = "\x7f\x9b\u202e\u2028\u200b\ufeff\U000e0001\ud800"
    text = to_json([hidden, "é東\U0001f4d2"])
    assert text == '[\n  "\\u007f\\u009b\\u202e\\u2028\\u200b\\ufeff\\udb40\\udc01\\ud800",\n  "é東\U0001f4d2"\n]'
    assert json.loads(text)[0] == hidden
    tallybook.run("record", "tokens", "customer=a\u202e\x9b", "tokens=1")
    assert r'"a\u202e\u009b"' in tallybook.run("totals", "tokens", "--json").stdout
