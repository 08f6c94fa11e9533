"""A figure is the same text on the page, on the command line and over HTTP, for the same question."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2
import pytest

from tests.cli.command_line import CommandLine
from tests.http.running_server import create_key, serve

from .ledgers import CUSTOMERS, END, START, create_ledger

START_END = {"start_time": int(START.timestamp()), "end_time": int(END.timestamp())}
TOKENS = {"meter": "tokens", "period": "2026-10"}


class Interfaces(NamedTuple):
    """The three ways to one ledger. `client` is logged in to the console, and has the key for the API."""

    client: httpx2.Client
    command_line: CommandLine

    def page(self, path: str, **params: object) -> str:
        """Return a page of the console."""
        response = self.client.get(f"/console{path}", params={name: str(value) for name, value in params.items()})
        assert response.status_code == 200, response.text
        return response.text

    def api(self, path: str, **params: object) -> str:
        """Return a response of the API as text, whose numbers are not parsed."""
        response = self.client.get(path, params={name: str(value) for name, value in params.items()})
        assert response.status_code == 200, response.text
        return response.text

    def api_json(self, meter: str, path: str, **params: object) -> Any:
        """Return a response of the API about a meter, with numbers as text."""
        meters = json.loads(self.api("/v1/billing/meters"))["data"]
        meter_id = next(one["id"] for one in meters if one["event_name"] == meter)
        text = self.api(f"/v1/billing/meters/{meter_id}/{path}", **params)
        return json.loads(text, parse_float=str)


def figure(html: str, label: str) -> tuple[str, str]:
    """Return the plain and the shown text of a figure with a label."""
    match = re.search(rf"<dt>{label}</dt>\s*<dd[^>]*><data value=\"([^\"]*)\">([^<]*)</data>", html)
    assert match is not None, label
    return match[1], match[2]


def column(html: str, number: int) -> list[str]:
    """Return the plain text of a column of figures, the first of which is 0, of all rows of the tables."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.DOTALL)
    cells = [re.findall(r'<data[^>]* value="([^"]*)"|<data value="([^"]*)"', row) for row in rows]
    return [values[number][0] or values[number][1] for values in cells if len(values) > number]


def numbers(text: str, name: str) -> list[str]:
    """Return the numbers with a name in JSON, as they are written there."""
    return re.findall(rf'"{name}":\s*"?(-?[0-9.]+)"?', text)


@pytest.fixture(scope="module")
def interfaces(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interfaces]:
    """A ledger with a server, a console and the command line."""
    folder = tmp_path_factory.mktemp("figures")
    url = create_ledger(folder / "usage.db")
    key = create_key(url, "admin")
    with serve(url, "--console") as server, server.client(key) as client:
        client.headers["Sec-Fetch-Site"] = "same-origin"
        assert client.post("/console/login", data={"key": key}).status_code == 303
        yield Interfaces(client, CommandLine(folder))


def test_a_total_is_the_same_text(interfaces: Interfaces) -> None:
    """The page shows it as the command line does; its plain text is that of JSON."""
    html = interfaces.page("/usage", customer="acme", **TOKENS)
    plain, shown = figure(html, "Quantity")
    printed = interfaces.command_line.run("total", "tokens", "acme", "--period", "2026-10").stdout
    of_command_line = interfaces.command_line.run("total", "tokens", "acme", "--period", "2026-10", "--json").stdout
    meter = json.loads(interfaces.api("/v1/billing/meters"))["data"]
    meter_id = next(one["id"] for one in meter if one["event_name"] == "tokens")
    of_api = interfaces.api(f"/v1/billing/meters/{meter_id}/explanation", customer="acme", **START_END)
    assert numbers(of_command_line, "value")[0] == plain == numbers(of_api, "aggregated_value")[0] == "74077.55"
    assert shown in printed
    assert shown == "74,077.55"


def test_an_explanation_is_the_same_text(interfaces: Interfaces) -> None:
    """All contributions, in order, and the digest."""
    html = interfaces.page("/why", customer="acme", **TOKENS)
    explained = interfaces.command_line.run("explain", "tokens", "acme", "--period", "2026-10", "--json").stdout
    csv = interfaces.page("/why.csv", customer="acme", **TOKENS)
    contributions = [json.loads(explained)["events"][index]["contribution"] for index in range(13)]
    shown = [values[-1] for row in re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.DOTALL)
             if "/console/event" in row and (values := re.findall(r'<data[^>]*value="([^"]*)"', row))]  # fmt: skip
    assert shown == contributions == [line.split(",")[7] for line in csv.splitlines()[1:]]
    assert json.loads(explained)["digest"] in html


def test_the_totals_of_customers_are_the_same_text(interfaces: Interfaces) -> None:
    """Each customer, and a name that looks like markup is text on the page."""
    html = interfaces.page("/usage", **TOKENS)
    totals = interfaces.command_line.run_json("totals", "tokens", "--period", "2026-10")
    listed: dict[str, str] = {total["customer"]: total["value"] for total in totals}
    assert sorted(column(html, 0)) == sorted(listed.values())
    assert sorted(listed) == sorted(CUSTOMERS)
    assert "<script>alert" not in html


def test_a_closing_and_its_adjustment_are_the_same_text(interfaces: Interfaces) -> None:
    """What was invoiced, and what is owed since."""
    html = interfaces.page("/periods/customer", customer="acme", **TOKENS)
    adjustments = interfaces.command_line.run_json("period", "adjustments", "tokens", "acme", "--period", "2026-10")
    (owed,) = adjustments
    assert figure(html, "Closed with")[0] == owed["period"]["quantity"] == "74000.55"
    assert re.findall(r'scope="row">Owed</th>.*?<data[^>]*value="([^"]*)"', html) == [owed["difference"]] == ["77.00"]
    lines = interfaces.page("/periods/invoice-lines.csv", period="2026-10")
    assert any(line.startswith("usage,acme,tokens") and ",74000.55,74000.55," in line for line in lines.splitlines())


def test_a_closed_figure_leads_to_what_is_owed(interfaces: Interfaces) -> None:
    """From a figure that has changed since it was invoiced; and the closing is a moment to compare."""
    why = interfaces.page("/why", customer="acme", **TOKENS)
    link = re.search(r'has changed since: <a href="/console([^"?]*)\?([^"]*)">see what is owed</a>', why)
    assert link is not None
    assert figure(interfaces.page(link[1], customer="acme", **TOKENS), "Closed with")[0] == "74000.55"
    assert "customer=acme" in link[2]
    compare = interfaces.page("/compare", customer="acme", **TOKENS)
    assert re.search(r"period closed at position <data[^>]*>\d+</data>: <a[^>]*>compare the total before it", compare)


def test_a_comparison_is_the_same_text_as_two_totals(interfaces: Interfaces) -> None:
    """The difference between two positions is that of the totals there."""
    html = interfaces.page("/compare", customer="acme", since=20, **TOKENS)
    earlier = interfaces.command_line.run_json("total", "tokens", "acme", "--period", "2026-10", "--as-of", "20")
    assert figure(html, r"At position <data value=\"20\">20</data>")[0] == earlier["value"]


def test_a_comparison_is_the_same_everywhere(interfaces: Interfaces) -> None:
    """The page, the command and the API have the same figures, and the same events with what each one was before."""
    since = 70
    html = interfaces.page("/compare", customer="acme", since=since, **TOKENS)
    options = ("tokens", "acme", "--period", "2026-10", "--since", since)
    of_command_line = interfaces.command_line.run_json("compare", *options)
    of_api = interfaces.api_json("tokens", "comparison", customer="acme", since_position=since, **START_END)
    shown = re.findall(r'<a class="mono" href="/console/event[^"]*">([^<]*)</a></th>', html)
    assert of_command_line["event_count"] == of_api["event_count"] == len(shown) > 1
    assert {one["before"] for one in of_command_line["events"]} == {None, "counted"}
    assert (of_command_line["since"], of_command_line["position"]) == (of_api["since"], of_api["position"])
    difference = re.search(r"<dt>Difference</dt><dd[^>]*><data[^>]*value=\"([^\"]*)\"", html)
    assert difference is not None
    assert difference[1] == of_command_line["difference"] == of_api["difference"]
    for name in ("before", "after"):
        assert of_command_line[name]["value"] == of_api[name]["aggregated_value"]
    pairs = [(one["identifier"], one["before"]) for one in of_command_line["events"]]
    assert pairs == [(one["identifier"], one["before"]) for one in of_api["events"]["data"]]
    assert [identifier for identifier, _ in pairs] == shown
    second = interfaces.command_line.run_json("compare", *options, "--offset", 1, "--limit", 1)
    page = interfaces.api_json(
        "tokens", "comparison", customer="acme", since_position=since, offset=1, limit=1, **START_END
    )
    assert page["events"]["has_more"] is (len(shown) > 2)
    assert [one["identifier"] for one in second["events"]] == [shown[1]] == [
        one["identifier"] for one in page["events"]["data"]
    ]  # fmt: skip
    printed = interfaces.command_line.run("compare", *options, "--limit", 1).stdout
    assert f"{len(shown)} events changed" in printed
    assert "--offset 1" in printed
    csv = interfaces.command_line.run("compare", *options, "--csv").stdout
    assert csv.count("\n") == len(shown) + 1


def test_some_events_of_an_explanation_are_the_same_everywhere(interfaces: Interfaces) -> None:
    """Those that don't count, as a page of three interfaces; the figures are those of all events."""
    html = interfaces.page("/why", customer="acme", show="not_counted", **TOKENS)
    options = ("tokens", "acme", "--period", "2026-10", "--verdict", "cancelled")
    of_command_line = interfaces.command_line.run_json("explain", *options)
    of_api = interfaces.api_json(
        "tokens", "explanation_page", customer="acme", **{"verdicts[]": "cancelled"}, **START_END
    )
    (cancelled,) = of_command_line["events"]
    assert [one["identifier"] for one in of_api["events"]["data"]] == [cancelled["identifier"]] == ["t-3-0"]
    assert re.findall(r'<a class="mono" href="/console/event[^"]*">([^<]*)</a></th>', html) == ["t-3-0"]
    same = ("digest", "event_count", "verdict_counts", "corrections", "matching_count", "position", "revision")
    assert {name: of_command_line[name] for name in same} == {name: of_api[name] for name in same}
    assert of_command_line["total"]["value"] == of_api["total"]["aggregated_value"] == figure(html, "Quantity")[0]
    printed = interfaces.command_line.run("explain", "tokens", "acme", "--period", "2026-10", "-n", 2, "--offset", 1)
    assert "shown: 2 to 3 of 13; for the next ones: --offset 3" in printed.stdout
    csv = interfaces.command_line.run("explain", *options, "--csv").stdout
    assert csv.splitlines()[1].split(",")[1] == "t-3-0"


def test_what_is_not_billed_is_found(interfaces: Interfaces) -> None:
    """The meter that no run has closed."""
    html = interfaces.page("/periods", period="2026-10")
    status = interfaces.command_line.run_json("period", "status", "--period", "2026-10", status=1)
    unbilled = {one["event_name"]: one["unbilled_events"] for one in status["meters"] if one["unbilled_events"]}
    assert set(unbilled) == {"storage"}
    assert f"storage: {unbilled['storage']} events of 3 customers" in html


def test_a_comparison_shows_what_a_rounding_changed(interfaces: Interfaces) -> None:
    """The total is the same at both positions, and is billed otherwise, which no event explains."""
    run = interfaces.command_line.run
    run("meter", "configure", "pages", "--customer-key", "customer")
    run("record", "pages", "customer=acme", "value=7", "--timestamp", "2026-10-07", "--backfill")
    since = interfaces.command_line.run_json("projection", "status")[0]["head"]
    run("rules", "change", "pages", "--rounding", "up:1000", "--reason", "price list 2", "--yes")
    html = interfaces.page("/compare", meter="pages", customer="acme", period="2026-10", since=since)
    assert [figure(html, label)[0] for label in ("Billable before", "Billable after")] == ["7", "1000"]
    assert "The difference comes from a change of the" in html
