"""The commands that ask: total, totals, usage, events and explain."""

from datetime import datetime
from pathlib import Path

import pytest
from tallybook.application import AcceptancePolicy, Metering

from .command_line import CommandLine

USES = (
    ("a1", "acme", "10", "2024-01-31T22:30:00"),
    ("a2", "acme", "20.50", "2024-01-31T23:30:00"),
    ("b1", "borealis", "1000000", "2024-01-31T23:30:00"),
    ("a3", "acme", "-0.25", "2024-02-29T12:00:00"),
    ("a4", "acme", "7", "2024-03-31T00:30:00"),
)


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """Uses around the ends of months, the first of them at position 2; the second is cancelled at position 7."""
    line = CommandLine(tmp_path)
    with Metering.open(line.url, policy=AcceptancePolicy(max_age=None)) as metering:
        metering.configure_meter("gb", customer_key="customer", value_key="gb")
        for identifier, customer, value, at in USES:
            payload = {"customer": customer, "gb": value}
            metering.record("gb", payload, identifier=identifier, timestamp=datetime.fromisoformat(f"{at}Z"))
        metering.cancel("gb", "a2", reason="sent by a test", by="ops")
    return line


def test_a_total_is_exact_and_says_for_whom_and_when(tallybook: CommandLine) -> None:
    """Decimals are plain text, times are in UTC with a Z, and the fields are called as in Python."""
    assert tallybook.answer("total", "gb", "acme", "--period", "2024") == {
        "value": "16.75",
        "sum": "16.75",
        "count": 3,
        "last": "7",
        "billable": "16.75",
        "customer": "acme",
        "start": "2024-01-01T00:00:00Z",
        "end": "2025-01-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (("--period", "2024"), "16.75"),
        (("--period", "2024-01"), "10"),
        (("--period", "2024-02"), "-0.25"),
        (("--period", "2024-02-29"), "-0.25"),
        (("--period", "2024-02-28"), "0"),
        (("--period", "2024-02", "--timezone", "Europe/Berlin"), "-0.25"),
        (("--period", "2024-01", "--timezone", "Asia/Tokyo"), "0"),
        (("--period", "2024-02", "--timezone", "Asia/Tokyo"), "9.75"),
        (("--from", "2024-01-31", "--to", "2024-02-29"), "10"),
        (("--from", "2024-01-31", "--to", "2024-03-01"), "9.75"),
        (("--from", "0001-01-01", "--to", "9999-12-31"), "16.75"),
        (("--from", "2024-01-31T22:30", "--to", "2024-01-31T22:30:00.000001"), "10"),
        (("--from", "2024-01-31T22:30:00.000001", "--to", "2024-02-01"), "0"),
        (("--from", "2024-02-01T07:30", "--to", "2024-02-01T07:31", "--timezone", "Asia/Tokyo"), "10"),
        (("--from", "2024-01-31T23:30+01:00", "--to", "2024-01-31T22:31Z", "--timezone", "Asia/Tokyo"), "10"),
    ],
)
def test_periods_and_ranges_follow_the_timezone(tallybook: CommandLine, words: tuple[str, ...], value: str) -> None:
    """A period is a year, month or day by the zone's clocks; a range is half-open, and an offset wins over the zone."""
    assert tallybook.answer("total", "gb", "acme", *words)["value"] == value


def test_without_a_period_the_current_month_is_asked_about(tallybook: CommandLine) -> None:
    """Usage of now is in it."""
    tallybook.run("record", "gb", "customer=new", "gb=3")
    assert tallybook.answer("total", "gb", "new")["value"] == "3"
    assert tallybook.answer("total", "gb", "acme")["count"] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--period", "2024-13"),
        ("--period", "2024-02-30"),
        ("--period", "0000"),
        ("--period", "January"),
        ("--from", "2024-01-01"),
        ("--to", "2024-01-01"),
        ("--period", "2024", "--from", "2024-01-01", "--to", "2024-02-01"),
        ("--from", "yesterday", "--to", "2024-02-01"),
        ("--as-of", "yesterday"),
    ],
)
def test_times_that_can_not_be_read_are_wrong_usage(tallybook: CommandLine, words: tuple[str, ...]) -> None:
    """Status 2, with no traceback."""
    assert "Error: " in tallybook.run("total", "gb", *words, status=2).stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("total", "nothing"), "no_meter"),
        (("total", "gb", "--timezone", "Mars/Olympus"), "unknown_timezone"),
        (("total", "gb", "--from", "2024-02-01", "--to", "2024-01-01"), "invalid_time_range"),
        (("total", "gb", "--as-of", "-1"), "invalid_as_of"),
        (("usage", "gb", "--window", "week"), "parameter_invalid"),
        (("events", "gb", "--limit", "0"), "parameter_invalid"),
        (("events", "gb", "--limit", "10001"), "parameter_invalid"),
        (("events", "gb", "--starting-after", "nothing"), "invalid_identifier"),
        (("explain", "gb", ""), "parameter_invalid"),
    ],
)
def test_what_the_ledger_refuses_has_its_code(tallybook: CommandLine, words: tuple[str, ...], code: str) -> None:
    """One line for people, one document for programs, status 1."""
    assert tallybook.refusal(*words)[0] == code


def test_a_total_as_of_before_a_cancel_still_counts_it(tallybook: CommandLine) -> None:
    """By position, and by the moment it was recorded."""
    words = ("total", "gb", "acme", "--period", "2024-01")
    assert tallybook.answer(*words, "--as-of", "6")["value"] == "30.50"
    assert tallybook.answer(*words, "--as-of", "7")["value"] == "10"
    (event,) = tallybook.answer("events", "gb", "acme", "--period", "2024-01", "--limit", "1")
    assert tallybook.answer(*words, "--as-of", event["recorded_at"])["value"] == "10"
    assert tallybook.answer(*words, "--as-of", "2024-01-31T22:30")["value"] == "0"
    assert "as of 6" in tallybook.lines(*words, "--as-of", "6")[0]


def test_totals_are_in_the_order_of_customers_with_separators(tallybook: CommandLine) -> None:
    """Thousands are separated for people only."""
    answer = tallybook.answer("totals", "gb", "--period", "2024")
    assert [(one["customer"], one["value"]) for one in answer] == [("acme", "16.75"), ("borealis", "1000000")]
    assert tallybook.lines("totals", "gb", "--period", "2024") == [
        "gb, all customers, 2024 (UTC)",
        "customer       value    billable   count        last",
        "─" * 52,
        "acme           16.75       16.75       3           7",
        "borealis   1,000,000   1,000,000       1   1,000,000",
        "2 customers",
    ]
    assert tallybook.lines("totals", "gb", "--period", "2023")[1] == "No usage."


def test_without_a_customer_the_whole_meter_is_asked_about(tallybook: CommandLine) -> None:
    """All customers together."""
    answer = tallybook.answer("total", "gb", "--period", "2024")
    assert (answer["customer"], answer["value"]) == (None, "1000016.75")


def test_usage_is_a_table_and_a_bar_for_each_window(tallybook: CommandLine) -> None:
    """The longest bar is the greatest value's; windows without usage are left out, and the gap is marked."""
    answer = tallybook.answer("usage", "gb", "acme", "--period", "2024", "--window", "month")
    assert [(one["start"][:10], one["value"]) for one in answer] == [
        ("2024-01-01", "10"), ("2024-02-01", "-0.25"), ("2024-03-01", "7"),
    ]  # fmt: skip
    lines = tallybook.lines("usage", "gb", "acme", "--period", "2024", "--window", "day")[3:]
    assert [line.split()[0] for line in lines] == ["2024-01-31", "...", "2024-02-29", "...", "2024-03-31"]
    assert [line.count("█") for line in lines] == [32, 0, 0, 0, 22]
    assert "░" in lines[2]


def test_usage_by_hours_follows_the_clocks_of_a_zone(tallybook: CommandLine) -> None:
    """Hours are named by the zone's own clock; JSON stays in UTC."""
    words = ("usage", "gb", "acme", "--period", "2024-03-31", "--window", "hour", "--timezone", "Europe/Berlin")
    assert tallybook.answer(*words)[0]["start"] == "2024-03-31T00:00:00Z"
    assert tallybook.lines(*words)[3].startswith("2024-03-31 01:00 CET")


def test_events_are_paged(tallybook: CommandLine) -> None:
    """The last identifier of a page is where the next one begins, and the page says so."""
    words = ("events", "gb", "--period", "2024", "--limit", "2")
    first = tallybook.answer(*words)
    assert [event["identifier"] for event in first] == ["a1", "a2"]
    assert tallybook.lines(*words)[-1] == "For the next page: --starting-after a2"
    second = tallybook.answer(*words, "--starting-after", "a2")
    assert [event["identifier"] for event in second] == ["b1", "a3"]
    last = tallybook.answer(*words, "--starting-after", "a3")
    assert [event["identifier"] for event in last] == ["a4"]
    assert tallybook.lines(*words, "--starting-after", "a4")[-1] == "No meter events."


def test_an_explanation_shows_each_event_with_its_verdict(tallybook: CommandLine) -> None:
    """What was cancelled says by whom and why, and those that count add up to the total."""
    answer = tallybook.answer("explain", "gb", "acme", "--period", "2024-01")
    assert [(one["identifier"], one["verdict"], one["reason"]) for one in answer["events"]] == [
        ("a1", "counted", None),
        ("a2", "cancelled", "sent by a test"),
    ]
    assert (answer["total"]["value"], answer["formula"], answer["revision"], answer["position"]) == ("10", "sum", 1, 7)
    lines = tallybook.lines("explain", "gb", "acme", "--period", "2024-01")
    assert "by ops: sent by a test" in lines[4]
    assert lines[5:7] == ["1 of 2 count: sum = 10", "rules revision 1, ledger position 7"]


def test_an_overwritten_event_names_what_counts_in_its_place(tallybook: CommandLine) -> None:
    """In a window of a day the newest report replaces the one before."""
    tallybook.run("meter", "configure", "seats", "--formula", "last", "--window", "day")
    for identifier, value in (("s1", "3"), ("s2", "4")):
        words = ("stripe_customer_id=a", f"value={value}", "--identifier", identifier, "--timestamp", "2024-01-01")
        tallybook.run("record", "seats", *words, "--backfill")
    lines = tallybook.lines("explain", "seats", "a", "--period", "2024")
    assert lines[3].endswith("overwritten by s2")
    assert lines[-3] == "1 of 2 count: last per day = 4"


def test_names_can_not_steer_the_terminal(tallybook: CommandLine) -> None:
    """Control characters and markup in a customer's name are shown, not obeyed."""
    name = "[red]\x1b[2Jé\n"
    tallybook.run("record", "gb", f"customer={name}", "gb=1")
    shown = tallybook.run("totals", "gb").stdout
    assert r"[red]\x1b[2Jé\n " in shown
    assert "\x1b" not in shown
    assert tallybook.answer("totals", "gb")[0]["customer"] == name
