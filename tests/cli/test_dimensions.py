"""Usage by dimension values: the options `--where`, `--without` and `--group-by`."""

import csv
from datetime import datetime
from io import StringIO
from pathlib import Path

import pytest
from tallybook.application import Metering

from .command_line import CommandLine
from .october_ledger import ANY_AGE, OCTOBER

USAGE = (
    ("e1", "acme", {"model": "small", "region": "eu", "tokens": "100"}, "2025-10-01T10:00"),
    ("e2", "acme", {"model": "small", "region": "us", "tokens": "250"}, "2025-10-01T11:00"),
    ("e3", "acme", {"model": "large", "region": "eu", "tokens": "1000"}, "2025-10-03T10:00"),
    ("e4", "acme", {"model": "large", "tokens": "7"}, "2025-10-03T11:00"),
    ("e5", "zeta", {"model": "small", "tokens": "33"}, "2025-10-04T10:00"),
    ("e6", "zeta", {"model": "free", "tokens": "9"}, "2025-10-05T10:00"),
)
ACME = ("tokens", "acme", *OCTOBER)
ALL = ("tokens", *OCTOBER)


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """Return a ledger with a required and an optional dimension, in which one of six meter events is filtered."""
    line = CommandLine(tmp_path)
    line.run(
        "meter", "configure", "tokens", "--customer-key", "customer", "--value-key", "tokens",
        "--dimension-key", "model", "--optional-dimension-key", "region", "--filter", "model!=free",
    )  # fmt: skip
    with Metering.open(line.url, policy=ANY_AGE) as metering:
        metering.record_many(
            [
                {
                    "event_name": "tokens",
                    "identifier": identifier,
                    "payload": {"customer": customer, **payload},
                    "timestamp": datetime.fromisoformat(f"{at}Z"),
                }
                for identifier, customer, payload, at in USAGE
            ],
            strict=True,
        )
    return line


def record_late(tallybook: CommandLine) -> None:
    """Record a meter event of acme in October: 50 tokens of the small model."""
    payload = ("customer=acme", "tokens=50", "model=small", "region=eu")
    tallybook.run("record", "tokens", *payload, "--identifier", "late", "--timestamp", "2025-10-31", "--backfill")


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ((), "1357"),
        (("--where", "region=eu"), "1100"),
        (("--where", "region=eu", "--where", "region=us"), "1350"),
        (("--where", "region=eu", "--where", "model=small"), "100"),
        (("--without", "region"), "7"),
        (("--without", "region", "--where", "region=us"), "257"),
        (("--where", "region="), "0"),
        (("--where", "region=mars"), "0"),
    ],
)
def test_usage_is_selected_by_dimension_values(tallybook: CommandLine, options: tuple[str, ...], value: str) -> None:
    """Several values of one key are alternatives, several keys must all match; an absent dimension is no empty text."""
    assert tallybook.run_json("total", *ACME, *options)["value"] == value


def test_a_heading_names_the_selection(tallybook: CommandLine) -> None:
    """A part of a total can't be taken for the total."""
    selection = ("--where", "region=eu", "--where", "model=small", "--without", "region", "--as-of", "7")
    heading = "2025-10 (UTC), where region=eu, model=small, without region, as of 7"
    assert tallybook.lines("total", *ACME, *selection)[0] == f"tokens, acme, {heading}"
    for command in ("totals", "summaries", "events", "explain"):
        assert tallybook.lines(command, *ALL, *selection)[0] == f"tokens, all customers, {heading}"


def test_a_total_is_followed_by_its_groups(tallybook: CommandLine) -> None:
    """An absent optional dimension is a group of its own, null in JSON; the groups add up to the total."""
    total = tallybook.run_json("total", *ACME, "--group-by", "model", "--group-by", "region")
    assert [(group["dimensions"], group["value"]) for group in total["groups"]] == [
        ({"model": "large", "region": None}, "7"),
        ({"model": "large", "region": "eu"}, "1000"),
        ({"model": "small", "region": "eu"}, "100"),
        ({"model": "small", "region": "us"}, "250"),
    ]
    assert tallybook.lines("total", *ACME, "--group-by", "model", "--group-by", "region") == [
        "tokens, acme, 2025-10 (UTC)",
        "  value (sum)     1,357",
        "  billable        1,357",
        "  sum             1,357",
        "  count               4",
        "  last                7",
        "  min                 7",
        "  max             1,000",
        "",
        "model   region   value   billable   count    last",
        "─────────────────────────────────────────────────",
        "large   (none)       7          7       1       7",
        "large   eu       1,000      1,000       1   1,000",
        "small   eu         100        100       1     100",
        "small   us         250        250       1     250",
    ]


def test_totals_have_rows_of_groups_under_each_customer(tallybook: CommandLine) -> None:
    """The row of the customer's total comes first."""
    assert tallybook.lines("totals", *ALL, "--group-by", "region", "--where", "model=small") == [
        "tokens, all customers, 2025-10 (UTC), where model=small",
        "customer   region   value   billable   count   last",
        "───────────────────────────────────────────────────",
        "acme       (all)      350        350       2    250",
        "acme       eu         100        100       1    100",
        "acme       us         250        250       1    250",
        "zeta       (all)       33         33       1     33",
        "zeta       (none)      33         33       1     33",
        "2 customers",
    ]


def test_summaries_have_rows_of_groups_under_each_window(tallybook: CommandLine) -> None:
    """Each row has its bar."""
    lines = tallybook.lines("summaries", *ACME, "--group-by", "model")
    assert [line.split("█")[0].split() for line in lines[3:]] == [
        ["2025-10-01", "(all)", "350", "2"],
        ["2025-10-01", "small", "350", "2"],
        ["..."],
        ["2025-10-03", "(all)", "1,007", "2"],
        ["2025-10-03", "large", "1,007", "2"],
    ]
    first, *_ = tallybook.run_json("summaries", *ACME, "--group-by", "model")
    assert [group["dimensions"] for group in first["groups"]] == [{"model": "small"}]


def test_events_show_their_dimension_values_and_verdicts(tallybook: CommandLine) -> None:
    """An event that doesn't match the filter of the meter is listed with the verdict `filtered`."""
    lines = tallybook.lines("events", "tokens", "zeta", *OCTOBER)
    assert [line.split()[2:] for line in lines[3:]] == [
        ["e5", "small", "(none)", "33", "counted"], ["e6", "free", "(none)", "-", "filtered"],
    ]  # fmt: skip
    selected = tallybook.run_json("events", *ALL, "--without", "region", "--where", "model=large")
    assert [(event["identifier"], event["dimensions"]) for event in selected] == [
        ("e4", {"model": "large", "region": None})
    ]


def test_an_explanation_has_dimension_values_and_groups(tallybook: CommandLine) -> None:
    """The groups follow the arithmetic of the total."""
    explain = ("explain", "tokens", "zeta", *OCTOBER, "--group-by", "model")
    lines = tallybook.lines(*explain)
    assert lines[1].split() == [
        "occurred", "at", "identifier", "model", "region", "value", "contribution", "verdict",
    ]  # fmt: skip
    assert lines[5:11] == [
        "1 of 2 count: sum = 33",
        "",
        "model   value   billable   count   last",
        "───────────────────────────────────────",
        "small      33         33       1     33",
        "",
    ]
    explanation = tallybook.run_json(*explain)
    assert [(event["dimensions"], event["verdict"]) for event in explanation["events"]] == [
        ({"model": "small", "region": None}, "counted"), ({"model": "free", "region": None}, "filtered"),
    ]  # fmt: skip
    assert [group["value"] for group in explanation["total"]["groups"]] == ["33"]


def test_the_csv_of_an_explanation_ends_with_dimension_columns(tallybook: CommandLine) -> None:
    """An absent dimension is an empty cell. The header is the same without events."""
    rows = list(csv.DictReader(StringIO(tallybook.run("explain", *ACME, "--csv").stdout, newline="")))
    assert list(rows[0])[-4:] == ["on_behalf_of", "revision", "dimension_model", "dimension_region"]
    assert [(row["dimension_model"], row["dimension_region"]) for row in rows] == [
        ("small", "eu"), ("small", "us"), ("large", "eu"), ("large", ""),
    ]  # fmt: skip
    nothing = tallybook.run("explain", "tokens", "acme", "--period", "2024", "--csv").stdout
    assert nothing.strip() == ",".join(rows[0])


def test_events_under_different_rules_have_all_dimensions_and_their_revision(tallybook: CommandLine) -> None:
    """From 3 October on, the team is a dimension instead of the region."""
    with Metering.open(tallybook.url, policy=ANY_AGE) as metering:
        metering.rules.change(
            "tokens",
            {"optional_dimension_keys": ("team",)},
            reason="a new contract",
            effective_from=datetime.fromisoformat("2025-10-03T00:00Z"),
        )
    lines = tallybook.lines("explain", *ACME, "--where", "region=eu", "--without", "region")
    assert lines[1].split()[3:] == ["model", "region", "team", "value", "contribution", "verdict", "revision"]
    assert [line.split()[2:6] + line.split()[-1:] for line in lines[3:6]] == [
        ["e1", "small", "eu", "(none)", "1"], ["e3", "large", "(none)", "(none)", "2"],
        ["e4", "large", "(none)", "(none)", "2"],
    ]  # fmt: skip
    assert tallybook.lines("events", *ACME)[1].split()[3:6] == ["model", "region", "team"]
    (first, *_, last) = csv.DictReader(StringIO(tallybook.run("explain", *ACME, "--csv").stdout, newline=""))
    assert list(first)[-4:] == ["revision", "dimension_model", "dimension_region", "dimension_team"]
    assert (first["revision"], first["dimension_region"], last["revision"], last["dimension_region"]) == (
        "1", "eu", "2", "",
    )  # fmt: skip


def test_a_closed_period_has_frozen_groups(tallybook: CommandLine) -> None:
    """Closing again prints the first groups, whatever keys are given."""
    close = ("period", "close", "tokens", "acme", *OCTOBER)
    period = tallybook.run_json(*close, "--group-by", "model")["period"]
    assert [(group["dimensions"], group["quantity"]) for group in period["groups"]] == [
        ({"model": "large"}, "1007"), ({"model": "small"}, "350"),
    ]  # fmt: skip
    record_late(tallybook)
    assert tallybook.lines(*close)[7:] == [
        "",
        "model   quantity   billable   events",
        "────────────────────────────────────",
        "large      1,007      1,007        2",
        "small        350        350        2",
    ]
    assert tallybook.run_json("period", "list", "tokens")[0]["groups"] == period["groups"]
    assert [line.split()[:6] for line in tallybook.lines("period", "list", "tokens")[2:]] == [
        ["acme", "2025-10", "(all)", "1,357", "1,357", "4"],
        ["acme", "2025-10", "large", "1,007", "1,007", "2"],
        ["acme", "2025-10", "small", "350", "350", "2"],
    ]


def test_a_billing_run_freezes_the_groups_of_each_customer(tallybook: CommandLine) -> None:
    """A period that was closed before without groups has only its total."""
    tallybook.run("period", "close", "tokens", "acme", *OCTOBER)
    tallybook.run("period", "run", "tokens", *OCTOBER, "--group-by", "region")
    assert [line.split()[:6] for line in tallybook.lines("period", "list", "tokens")[2:]] == [
        ["acme", "2025-10", "(all)", "1,357", "1,357", "4"],
        ["zeta", "2025-10", "(all)", "33", "33", "1"],
        ["zeta", "2025-10", "(none)", "33", "33", "1"],
    ]
    assert tallybook.run_error("period", "run", *OCTOBER, "--group-by", "colour") == ("parameter_invalid", "group_by")


def test_adjustments_are_divided_and_selected(tallybook: CommandLine) -> None:
    """The frozen quantity is that of the selected usage; each event has its dimension values."""
    tallybook.run("period", "close", "tokens", "acme", *OCTOBER)
    record_late(tallybook)
    lines = tallybook.lines("period", "adjustments", "tokens", "--group-by", "model", "--events")
    assert [line.split() for line in lines[2:5]] == [
        ["acme", "2025-10", "(all)", "1,357", "1,407", "+50", "+50", "0"],
        ["acme", "2025-10", "large", "1,007", "1,007", "0", "0", "-"],
        ["acme", "2025-10", "small", "350", "400", "+50", "+50", "-"],
    ]
    assert lines[-1].split()[2:] == ["late", "small", "eu", "50", "+50", "not", "recorded", "counted"]
    selected = ("period", "adjustments", "tokens", "--where", "model=small")
    assert tallybook.lines(*selected)[2].split()[2:5] == ["350", "400", "+50"]
    (adjustment,) = tallybook.run_json(*selected, "--group-by", "region", "--where", "region=eu")
    (group,) = adjustment["groups"]
    assert (group["dimensions"], group["quantity"], group["difference"]) == ({"region": "eu"}, "150", "50")
    assert (group["billable"], group["billable_difference"]) == ("150", "50")
    assert tallybook.run_json("period", "adjustments", "tokens", "--where", "model=large") == []


def test_a_generation_is_compared_by_dimension_values(tallybook: CommandLine) -> None:
    """Meters without the dimension are left out."""
    tallybook.run("meter", "configure", "calls")
    tallybook.run("rules", "change", "tokens", "--formula", "max")
    difference = tallybook.run_json("projection", "diff", 2, "--group-by", "model")
    assert [meter["event_name"] for meter in difference["meters"]] == ["tokens"]
    assert [(row["dimensions"], row["difference"]) for row in difference["differences"]] == [
        ({"model": "small"}, "-100"), ({"model": "large"}, "-7"),
    ]  # fmt: skip
    lines = tallybook.lines("projection", "diff", 2, "--group-by", "region", "--where", "model=small")
    assert lines[0].endswith(", where model=small")
    assert lines[-1] == "No total differs."
    assert tallybook.run_error("projection", "diff", 2, "--group-by", "modle") == ("parameter_invalid", "group_by")


def test_a_dimension_may_have_the_name_of_a_column(tallybook: CommandLine) -> None:
    """Its column is named differently, and its text is escaped."""
    tallybook.run("meter", "configure", "seats", "--formula", "count", "--value-key", "n", "--dimension-key", "value")
    tallybook.run("record", "seats", "stripe_customer_id=a", "value=1\x1b")
    head, _, total, group, _ = tallybook.lines("totals", "seats", "--group-by", "value")[1:]
    assert head.split() == ["customer", "dimension", "value", "value", "billable", "count", "last"]
    assert (total.split()[1], group.split()[1]) == ("(all)", r"1\x1b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("total", *ALL, "--group-by", "modle"), "--group-by names 'modle', which is no dimension"),
        (("totals", *ALL, "--group-by", "model", "--group-by", "model"), "--group-by must name different dimensions"),
        (("summaries", *ALL, "--where", "modle=small"), "--where or --without names 'modle'"),
        (("events", *ALL, "--without", "modle"), "--where or --without names 'modle'"),
        (("explain", *ALL, "--group-by", "modle"), "--group-by names 'modle'"),
        (("period", "close", "tokens", "acme", *OCTOBER, "--group-by", "modle"), "--group-by names 'modle'"),
        (("period", "adjustments", "tokens", "--where", "modle=1"), "--where or --without names 'modle'"),
    ],
)
def test_an_unknown_dimension_is_an_error_of_its_option(
    tallybook: CommandLine, arguments: tuple[str, ...], message: str
) -> None:
    """The message lists the dimensions of the meter."""
    tallybook.run("period", "close", "tokens", "acme", "--period", "2025-09")
    error = tallybook.run_error_json(*arguments)
    assert error["code"] == "parameter_invalid"
    assert error["message"].startswith(message)


@pytest.mark.parametrize(
    "arguments",
    [
        ("total", *ALL, "--where", "region"),
        ("events", *ALL, "--where", "=eu"),
        ("explain", *ALL, "--csv", "--group-by", "model"),
    ],
)
def test_impossible_options_are_a_usage_error(tallybook: CommandLine, arguments: tuple[str, ...]) -> None:
    """A selection needs KEY=VALUE, and a CSV of events has no place for groups."""
    assert "Error: " in tallybook.run(*arguments, status=2).stderr
