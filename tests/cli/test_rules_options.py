"""The options for the rules of a meter: formulas, filter, optional dimensions, multiplier and rounding."""

import csv
import hashlib
from io import StringIO
from pathlib import Path

import pytest
from tallybook.application.interfaces.condition_text import format_filter, parse_filter
from tallybook.application.rules_arguments import parse_rules

from .command_line import CommandLine

NESTED = """{"any": [
    {"key": "a", "exists": true},
    {"all": [{"key": "b", "at_least": 1}, {"not": {"key": "c", "less_than": 2}}]}
]}"""
CHANGE = ("rules", "change", "storage", "--reason", "a new contract", "--yes")


@pytest.fixture
def tallybook(tmp_path: Path) -> CommandLine:
    """Return a ledger with three meter events of one customer: 1500, 2500 and 1500 in the regions eu, us and eu."""
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "storage", "--customer-key", "customer")
    for number, (value, region) in enumerate((("1500", "eu"), ("2500", "us"), ("1500", "eu")), 1):
        payload = ("customer=acme", f"value={value}", f"region={region}")
        line.run("record", "storage", *payload, "--identifier", f"e{number}")
    return line


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("sum", "5500"), ("count", "3"), ("last", "1500"), ("max", "2500"), ("min", "1500"),
        ("avg", "1833.333333333333333"), ("unique_count", "2"),
    ],
)  # fmt: skip
def test_each_formula_can_be_configured(tallybook: CommandLine, formula: str, value: str) -> None:
    """The name of the formula is part of the total."""
    tallybook.run("meter", "configure", "other", "--customer-key", "customer", "--formula", formula)
    for number, recorded in enumerate(("1500", "2500", "1500"), 1):
        tallybook.run("record", "other", "customer=acme", f"value={recorded}", "--identifier", f"o{number}")
    assert tallybook.run_json("total", "other", "acme")["value"] == value
    assert tallybook.lines("total", "other", "acme")[1].startswith(f"  value ({formula})")


def test_a_meter_is_configured_with_all_rules(tallybook: CommandLine) -> None:
    """The views of the meter show them, as text and as JSON."""
    tallybook.run(
        "meter", "configure", "gb", "--optional-dimension-key", "region", "--optional-dimension-key", "team",
        "--filter", "plan=pro", "--filter", "plan=team", "--multiplier", "0.001", "--rounding", "half_up:0.01",
    )  # fmt: skip
    meter = tallybook.run_json("meter", "show", "gb")
    assert meter["optional_dimension_keys"] == ["region", "team"]
    assert meter["filter"] == {"key": "plan", "one_of": ["pro", "team"]}
    assert (meter["multiplier"], meter["rounding"]) == ("1/1000", {"mode": "half_up", "step": "0.01"})
    assert tallybook.lines("meter", "show", "gb")[6:11] == [
        "  dimension keys  none",
        "  optional keys   region, team",
        "  filter          plan = pro or team",
        "  multiplier      1/1000",
        "  rounding        half up to 0.01",
    ]
    tallybook.environment["COLUMNS"] = "200"
    head, _, gb, storage = tallybook.lines("meter", "list")
    assert head.split("   ")[0] == "meter"
    assert "sum, times 1/1000, rounded half up to 0.01" in gb
    assert "stripe_customer_id, value, optional region, optional team   plan = pro or team" in gb
    assert storage.split()[-1] == "active"


def test_rules_are_changed_and_removed_one_by_one(tallybook: CommandLine) -> None:
    """Rules that no option names stay the same."""
    assert tallybook.run_json("total", "storage", "acme")["billable"] == "5500"
    tallybook.run(*CHANGE, "--filter", "region=eu")
    assert tallybook.run_json("total", "storage", "acme")["value"] == "3000"
    tallybook.run(*CHANGE, "--multiplier", "1/1000", "--rounding", "up")
    total = tallybook.run_json("total", "storage", "acme")
    assert (total["value"], total["billable"]) == ("3", "3")
    tallybook.run(*CHANGE, "--no-filter", "--optional-dimension-key", "region")
    total = tallybook.run_json("total", "storage", "acme", "--group-by", "region")
    assert (total["value"], total["billable"], len(total["groups"])) == ("5.5", "6", 2)
    tallybook.run(*CHANGE, "--no-rounding", "--no-optional-dimension-keys")
    assert tallybook.run_json("total", "storage", "acme")["billable"] == "5.5"
    tallybook.run(*CHANGE, "--no-multiplier")
    meter = tallybook.run_json("meter", "show", "storage")
    assert (meter["optional_dimension_keys"], meter["filter"], meter["multiplier"], meter["rounding"]) == (
        [], None, None, None,
    )  # fmt: skip
    assert tallybook.run_json("total", "storage", "acme")["value"] == "5500"


def test_changed_rules_are_described(tallybook: CommandLine) -> None:
    """The candidate, the promotion and the list of generations name them."""
    options = (
        "--filter",
        "region=eu",
        "--multiplier",
        "0.001",
        "--rounding",
        "up:0.5",
        "--optional-dimension-key",
        "x",
    )
    described = "sum, times 1/1000, rounded up to 0.5 (keys: customer, value, optional x; filter: region = eu)"
    tallybook.environment["COLUMNS"] = "200"
    assert tallybook.lines("rules", "change", "storage", *options)[0].startswith(f"storage counted by {described}, in")
    changed = "optional dimension keys x, filter region = eu, multiplier 1/1000, rounding up to 0.5"
    assert tallybook.lines("projection", "status")[-1].endswith(f"storage: {changed}")
    assert any(described in line for line in tallybook.lines(*CHANGE, *options))


def test_unique_values_are_shown_and_reproduce_the_digest(tallybook: CommandLine) -> None:
    """The first event of each value contributes one. In the CSV, a value is JSON text, in which no formula remains."""
    tallybook.run(
        "meter", "configure", "users", "--formula", "unique_count", "--customer-key", "c", "--value-key", "user"
    )
    for number, user in enumerate(("ann", "=ann", "ann"), 1):
        tallybook.run("record", "users", "c=acme", f"user={user}", "--identifier", f"u{number}")
    lines = tallybook.lines("explain", "users", "acme")
    assert [line.split()[2:] for line in lines[3:6]] == [
        ["u1", "ann", "1", "counted"], ["u2", "=ann", "1", "counted"], ["u3", "ann", "0", "counted"],
    ]  # fmt: skip
    assert lines[6] == "3 of 3 count: unique_count = 2"
    assert [event["unique_value"] for event in tallybook.run_json("events", "users")] == ["ann", "=ann", "ann"]
    rows = list(csv.DictReader(StringIO(tallybook.run("explain", "users", "--csv").stdout, newline="")))
    assert [row["value"] for row in rows] == ['"ann"', '"=ann"', '"ann"']
    hashed = "".join(f"{row['position']},{row['occurred_at']},{row['value']}\n" for row in rows)
    assert lines[-1] == f"SHA-256 {hashlib.sha256(hashed.encode()).hexdigest()}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--formula", "median"), "--formula must be one of 'sum', "),
        (("--rounding", "sideways"), "--rounding must be like up:0.01, with the mode 'up', "),
        (("--rounding", "up:0"), "--rounding must be like up:0.01, with the mode 'up', "),
        (("--multiplier", "-1"), "--multiplier must be a number above 0"),
        (("--filter", '{"key": "region", "equal": "eu"}'), "--filter must be a condition like region=eu or {"),
        (("--filter", "region="), "--filter must be a condition like region=eu or {"),
        (("--optional-dimension-key", ""), "--optional-dimension-key must be text of 1 to 100 characters"),
    ],
)
def test_an_invalid_rule_is_an_error_of_its_option(
    tallybook: CommandLine, options: tuple[str, ...], message: str
) -> None:
    """The commands `meter configure` and `rules change` have the same options."""
    for command in (("meter", "configure", "gb"), ("rules", "change", "storage")):
        error = tallybook.run_error_json(*command, *options)
        assert error["code"] == "parameter_invalid"
        assert error["message"].startswith(message)


@pytest.mark.parametrize(
    "options",
    [
        ("--filter", "region"), ("--filter", "=eu"), ("--filter", "{"), ("--filter", "{" * 100_000),
        ("--filter", "region=eu", "--no-filter"), ("--multiplier", "2", "--no-multiplier"), (),
    ],
)  # fmt: skip
def test_an_unreadable_or_contradictory_change_is_a_usage_error(
    tallybook: CommandLine, options: tuple[str, ...]
) -> None:
    """A rule is either set or removed, and a filter is KEY=VALUE or JSON."""
    assert "Error: " in tallybook.run("rules", "change", "storage", *options, status=2).stderr


@pytest.mark.parametrize(
    ("texts", "condition", "words"),
    [
        (["a=b"], {"key": "a", "equals": "b"}, "a = b"),
        (["a=b=c"], {"key": "a", "equals": "b=c"}, "a = b=c"),
        (["a=b", "a=c"], {"key": "a", "one_of": ["b", "c"]}, "a = b or c"),
        (["a!=b"], {"not": {"key": "a", "equals": "b"}}, "a != b"),
        (["a!=b", "a!=c"], {"not": {"key": "a", "one_of": ["b", "c"]}}, "not (a = b or c)"),
        (
            ["a=b", "c=d"],
            {"all": [{"key": "a", "equals": "b"}, {"key": "c", "equals": "d"}]},
            "a = b and c = d",
        ),
        (['{"key": "a", "exists": true}'], {"key": "a", "exists": True}, "a exists"),
        (['{"key": "a", "exists": false}'], {"key": "a", "exists": False}, "a is absent"),
        (
            ['{"key": "n", "greater_than": 0.10, "at_most": "5"}', "a=b", "a=c"],
            {"all": [{"key": "n", "greater_than": "0.10", "at_most": "5"}, {"key": "a", "one_of": ["b", "c"]}]},
            "(n > 0.10 and <= 5) and (a = b or c)",
        ),
        (
            [NESTED],
            {"any": [{"key": "a", "exists": True},
                     {"all": [{"key": "b", "at_least": "1"}, {"not": {"key": "c", "less_than": "2"}}]}]},
            "a exists or (b >= 1 and not (c < 2))",
        ),
    ],
)  # fmt: skip
def test_a_filter_is_typed_and_described(texts: list[str], condition: dict[str, object], words: str) -> None:
    """Numbers in JSON keep their digits."""
    filter_rule = parse_rules({"filter": parse_filter(texts)}).filter
    assert filter_rule is not None
    assert filter_rule.model_dump(mode="json", by_alias=True) == condition
    assert format_filter(filter_rule) == words
