"""The query commands: `total`, `totals`, `summaries`, `events` and `explain`."""

from datetime import datetime
from pathlib import Path

import pytest
from tallybook.application import AcceptancePolicy, Metering

from .command_line import CommandLine

METER_EVENTS = (
    ("a1", "acme", "10", "2024-01-31T22:30:00"),
    ("a2", "acme", "20.50", "2024-01-31T23:30:00"),
    ("b1", "borealis", "1000000", "2024-01-31T23:30:00"),
    ("a3", "acme", "-0.25", "2024-02-29T12:00:00"),
    ("a4", "acme", "7", "2024-03-31T00:30:00"),
)


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """Record meter events at the ends of months, from position 2 on; the second one is cancelled at position 7."""
    line = CommandLine(tmp_path)
    with Metering.open(line.url, policy=AcceptancePolicy(max_age=None)) as metering:
        metering.meters.configure("gb", customer_key="customer", value_key="gb")
        for identifier, customer, value, at in METER_EVENTS:
            payload = {"customer": customer, "gb": value}
            metering.record("gb", payload, identifier=identifier, timestamp=datetime.fromisoformat(f"{at}Z"))
        metering.cancel("gb", "a2", reason="sent by a test", by="ops")
    return line


def test_a_total_is_exact_and_shows_customer_and_period(tallybook: CommandLine) -> None:
    """Decimals are plain text, times are in UTC with a Z, and fields have the names of the Python attributes."""
    assert tallybook.run_json("total", "gb", "acme", "--period", "2024") == {
        "value": "16.75",
        "sum": "16.75",
        "count": 3,
        "last": "7",
        "billable": "16.75",
        "customer": "acme",
        "start": "2024-01-01T00:00:00Z",
        "end": "2025-01-01T00:00:00Z",
        "min": "-0.25",
        "max": "10",
        "dimensions": {},
        "groups": [],
        "counted_from": None,
        "counted_until": None,
    }


@pytest.mark.parametrize(
    ("arguments", "value"),
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
def test_periods_and_ranges_follow_the_timezone(tallybook: CommandLine, arguments: tuple[str, ...], value: str) -> None:
    """A period is a local year, month or day; a range is half-open, and an offset overrides the timezone."""
    assert tallybook.run_json("total", "gb", "acme", *arguments)["value"] == value


def test_without_a_period_the_current_month_is_queried(tallybook: CommandLine) -> None:
    """The current month includes usage of now."""
    tallybook.run("record", "gb", "customer=new", "gb=3")
    assert tallybook.run_json("total", "gb", "new")["value"] == "3"
    assert tallybook.run_json("total", "gb", "acme")["count"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--period", "2024-13"),
        ("--period", "2024-02-30"),
        ("--period", "0000"),
        ("--period", "January"),
        ("--from", "2024-01-01"),
        ("--to", "2024-01-01"),
        ("--period", "2024", "--from", "2024-01-01", "--to", "2024-02-01"),
        ("--from", "yesterday", "--to", "2024-02-01"),
        ("--from", "2024-01-01+02:00", "--to", "2024-02-01"),
        ("--as-of", "yesterday"),
    ],
)
def test_unparseable_times_are_a_usage_error(tallybook: CommandLine, arguments: tuple[str, ...]) -> None:
    """The exit status is 2, without a traceback."""
    assert "Error: " in tallybook.run("total", "gb", *arguments, status=2).stderr


def test_a_date_without_hyphens_is_not_taken_for_a_position(tallybook: CommandLine) -> None:
    """Such a position would be beyond the end of the ledger, and the total the current one."""
    arguments = ("total", "gb", "--period", "2024-01", "--as-of")
    assert "write 2024-01-31" in " ".join(tallybook.run(*arguments, "20240131", status=2).stderr.split())
    assert tallybook.run_json(*arguments, "20241331") == tallybook.run_json(*arguments, "99999999")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("total", "nothing"), "no_meter"),
        (("total", "gb", "--timezone", "Mars/Olympus"), "unknown_timezone"),
        (("total", "gb", "--from", "2024-02-01", "--to", "2024-01-01"), "invalid_time_range"),
        (("total", "gb", "--timezone", "posix/Europe/Berlin"), "unknown_timezone"),
        (("total", "gb", "--period", "2011-12-30", "--timezone", "Pacific/Apia"), "invalid_time_range"),
        (
            ("total", "gb", "--from", "2024-03-31T02:10", "--to", "2024-03-31T02:50", "--timezone", "Europe/Berlin"),
            "invalid_time_range",
        ),
        (("total", "gb", "--as-of", "-1"), "invalid_as_of"),
        (("summaries", "gb", "--window", "week"), "parameter_invalid"),
        (("events", "gb", "--limit", "0"), "parameter_invalid"),
        (("events", "gb", "--limit", "10001"), "parameter_invalid"),
        (("events", "gb", "--starting-after", "nothing"), "invalid_identifier"),
        (("explain", "gb", ""), "parameter_invalid"),
    ],
)
def test_ledger_errors_have_their_code(tallybook: CommandLine, arguments: tuple[str, ...], code: str) -> None:
    """The error is one line of text or one JSON document, and the exit status is 1."""
    assert tallybook.run_error(*arguments)[0] == code


def test_a_total_as_of_before_a_cancellation_includes_the_event(tallybook: CommandLine) -> None:
    """`--as-of` takes a position or a time of recording."""
    arguments = ("total", "gb", "acme", "--period", "2024-01")
    assert tallybook.run_json(*arguments, "--as-of", "6")["value"] == "30.50"
    assert tallybook.run_json(*arguments, "--as-of", "7")["value"] == "10"
    (event,) = tallybook.run_json("events", "gb", "acme", "--period", "2024-01", "--limit", "1")
    assert tallybook.run_json(*arguments, "--as-of", event["recorded_at"])["value"] == "10"
    assert tallybook.run_json(*arguments, "--as-of", "2024-01-31T22:30")["value"] == "0"
    assert "as of 6" in tallybook.lines(*arguments, "--as-of", "6")[0]


def test_totals_are_in_the_order_of_customers_with_separators(tallybook: CommandLine) -> None:
    """Text has thousands separators, JSON has not."""
    result = tallybook.run_json("totals", "gb", "--period", "2024")
    assert [(total["customer"], total["value"]) for total in result] == [("acme", "16.75"), ("borealis", "1000000")]
    assert tallybook.lines("totals", "gb", "--period", "2024") == [
        "gb, all customers, 2024 (UTC)",
        "customer       value    billable   count        last",
        "─" * 52,
        "acme           16.75       16.75       3           7",
        "borealis   1,000,000   1,000,000       1   1,000,000",
        "2 customers",
    ]
    assert tallybook.lines("totals", "gb", "--period", "2023")[1] == "No usage."


def test_without_a_customer_the_whole_meter_is_queried(tallybook: CommandLine) -> None:
    """The total is of all customers."""
    result = tallybook.run_json("total", "gb", "--period", "2024")
    assert (result["customer"], result["value"]) == (None, "1000016.75")


def test_summaries_are_a_table_with_a_bar_for_each_window(tallybook: CommandLine) -> None:
    """The greatest value has the longest bar; windows without usage are omitted and marked."""
    result = tallybook.run_json("summaries", "gb", "acme", "--period", "2024", "--window", "month")
    assert [(summary["start"][:10], summary["value"]) for summary in result] == [
        ("2024-01-01", "10"), ("2024-02-01", "-0.25"), ("2024-03-01", "7"),
    ]  # fmt: skip
    lines = tallybook.lines("summaries", "gb", "acme", "--period", "2024", "--window", "day")[3:]
    assert [line.split()[0] for line in lines] == ["2024-01-31", "...", "2024-02-29", "...", "2024-03-31"]
    assert [line.count("█") for line in lines] == [32, 0, 0, 0, 22]
    assert "░" in lines[2]


def test_hourly_summaries_follow_the_timezone(tallybook: CommandLine) -> None:
    """Text shows hours in local time; JSON has UTC."""
    arguments = ("summaries", "gb", "acme", "--period", "2024-03-31", "--window", "hour", "--timezone", "Europe/Berlin")
    assert tallybook.run_json(*arguments)[0]["start"] == "2024-03-31T00:00:00Z"
    assert tallybook.lines(*arguments)[3].startswith("2024-03-31 01:00 CET")


def test_events_are_paged(tallybook: CommandLine) -> None:
    """A page ends with the option for the next page, which starts after the last identifier."""
    arguments = ("events", "gb", "--period", "2024", "--limit", "2")
    first = tallybook.run_json(*arguments)
    assert [event["identifier"] for event in first] == ["a1", "a2"]
    assert tallybook.lines(*arguments)[-1] == "For the next page: --starting-after a2"
    second = tallybook.run_json(*arguments, "--starting-after", "a2")
    assert [event["identifier"] for event in second] == ["b1", "a3"]
    last = tallybook.run_json(*arguments, "--starting-after", "a3")
    assert [event["identifier"] for event in last] == ["a4"]
    assert tallybook.lines(*arguments, "--starting-after", "a4")[-1] == "No meter events."


def test_an_explanation_shows_each_event_with_its_verdict(tallybook: CommandLine) -> None:
    """A cancelled event has its author and reason, and the counted events add up to the total."""
    result = tallybook.run_json("explain", "gb", "acme", "--period", "2024-01")
    assert [(event["identifier"], event["verdict"], event["reason"]) for event in result["events"]] == [
        ("a1", "counted", None),
        ("a2", "cancelled", "sent by a test"),
    ]
    assert (result["total"]["value"], result["formula"], result["revision"], result["position"]) == ("10", "sum", 1, 7)
    lines = tallybook.lines("explain", "gb", "acme", "--period", "2024-01")
    assert "by ops: sent by a test" in lines[4]
    assert lines[5:7] == ["1 of 2 count: sum = 10", "rules revision 1, ledger position 7"]


def test_a_superseded_event_names_its_successor(tallybook: CommandLine) -> None:
    """With a day window, the newest meter event supersedes the previous one."""
    tallybook.run("meter", "configure", "seats", "--formula", "last", "--window", "day")
    for identifier, value in (("s1", "3"), ("s2", "4")):
        arguments = ("stripe_customer_id=a", f"value={value}", "--identifier", identifier, "--timestamp", "2024-01-01")
        tallybook.run("record", "seats", *arguments, "--backfill")
    lines = tallybook.lines("explain", "seats", "a", "--period", "2024")
    assert lines[3].endswith("superseded by s2")
    assert lines[-3] == "1 of 2 count: last per day = 4"


def test_control_characters_in_names_are_escaped(tallybook: CommandLine) -> None:
    """Control characters in a customer's name are escaped, and markup is not interpreted."""
    name = "[red]\x1b[2Jé\n"
    tallybook.run("record", "gb", f"customer={name}", "gb=1")
    stdout = tallybook.run("totals", "gb").stdout
    assert r"[red]\x1b[2Jé\n " in stdout
    assert "\x1b" not in stdout
    assert tallybook.run_json("totals", "gb")[0]["customer"] == name
