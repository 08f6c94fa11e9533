"""Invoice lines over HTTP: those of the library, by pages, and their settlement."""

from typing import Any

import pytest
from tallybook.application import InvoiceLineReader

from ...notation import Ledger, moment
from .api_client import ApiClient, unix_time

LINES = "/v1/billing/invoice_lines"
ADJUSTMENTS = "/v1/billing/period_adjustments"
Json = dict[str, Any]
PERIOD_OF_11TH: Json = {"start_time": unix_time("11"), "end_time": unix_time("12")}
LONG_NAME = "x" * 1_001


@pytest.fixture
def closed(ledger: Ledger) -> Ledger:
    """Two closed days of several customers and two meters, with late usage of the first day."""
    ledger.given(f"""
        meter  calls  sum  by region
        meter  seats  last
        10:00  acme calls 5.50  region=eu
        10:01  acme calls 3     region=us  id=us
        10:00  acme seats 2
        10:00  beta calls 3  region=eu
        10:00  {LONG_NAME} seats 8
        close  acme calls 10 11  by region  at=11T01:00
        close  acme seats 10 11
        close  beta calls 10 11
        close  {LONG_NAME} seats 10 11
        cancel us
        11:00  acme calls 2  region=ap  recorded=11T02:00
        11:00  {LONG_NAME} seats 9  recorded=11T02:00
        12:00  zeta calls 9  region=eu  recorded=11T02:00
        11T10:00  acme calls 4  region=eu
        11T10:00  beta calls 6  region=eu
        close  acme calls 11 12  by region  at=12T01:00
        close  beta calls 11 12
        reopen acme calls 11 12  reason=address
        close  acme calls 11 12  by region
        12:00  beta calls 1  region=eu  recorded=12T02:00
    """)
    return ledger


def text_of(line: Json) -> str:
    """Return a line as "kind customer day: value", with its group."""
    day = line["start_time"] // 86_400 - unix_time("01") // 86_400 + 1
    dimensions: Json = line["dimensions"] or {}
    group = "".join(f" {value}" for value in dimensions.values())
    return f"{line['kind']} {line['customer'][:4]} {day}{group}: {line['aggregated_value']}"


def test_the_lines_are_those_of_the_library(closed: Ledger, api: ApiClient) -> None:
    """The closed usage, then the adjustments of earlier periods, by customer and meter."""
    listed = api.get(LINES, **PERIOD_OF_11TH, limit=100)
    assert [text_of(line) for line in listed["data"]] == [
        "usage acme 11 eu: 4", "usage beta 11: 6", "adjustment acme 10 ap: 2", "adjustment acme 10 us: -3",
        "adjustment beta 10: 1", "adjustment zeta 10: 9", "adjustment xxxx 10: 1",
    ]  # fmt: skip
    expected = closed.metering.periods.invoice_lines(moment("11"), moment("12"))
    assert (listed["position"], listed["has_more"]) == (expected.position, False)
    in_order = [line for line in listed["data"] if line["customer"] != LONG_NAME]
    of_library = [line for line in expected.lines if line.customer != LONG_NAME]
    for line, of_line in zip(in_order, of_library, strict=True):
        assert (line["kind"], line["customer"], line["dimensions"]) == (
            of_line.kind,
            of_line.customer,
            of_line.dimensions,
        )
        assert (line["aggregated_value"], line["billable_value"]) == (of_line.quantity, of_line.billable)
        assert (line["position"], line["digest"]) == (of_line.position, of_line.digest)
        assert (line["previously_billed"], line["late"]) == (of_line.previously_billed, of_line.is_late)
        assert (line["start_time"], line["end_time"]) == (of_line.start.timestamp(), of_line.end.timestamp())


def test_a_line_names_its_adjustment(closed: Ledger, api: ApiClient) -> None:
    """By which it is settled for an invoice of its own, also that of a customer without a closing; usage has none."""
    lines = api.get(LINES, **PERIOD_OF_11TH, limit=100)
    for line in lines["data"]:
        if line["kind"] == "usage":
            assert line["period_adjustment"] is None
            continue
        adjustment = api.get(f"{ADJUSTMENTS}/{line['period_adjustment']}", as_of_position=lines["position"])
        assert (adjustment["customer"], adjustment["meter"]) == (line["customer"], line["meter"])
        assert (adjustment["closed_period"] is None) == line["late"]
        settle = f"{ADJUSTMENTS}/{line['period_adjustment']}/settle"
        api.post(settle, document=f"INV {line['customer'][:4]}", as_of_position=lines["position"])
    usage = [line for line in lines["data"] if line["kind"] == "usage"]
    assert api.get(LINES, **PERIOD_OF_11TH, limit=100)["data"] == usage


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_pages_have_each_line_once(closed: Ledger, api: ApiClient, limit: int) -> None:
    """In both directions; as of the position of the first page, also while adjustments are settled."""
    complete = api.get(LINES, **PERIOD_OF_11TH, limit=10_000)
    query: Json = {**PERIOD_OF_11TH, "as_of_position": complete["position"]}
    assert api.list_all(LINES, **query, limit=limit) == complete["data"]
    for at, line in enumerate(complete["data"]):
        before = api.get(LINES, **query, limit=limit, ending_before=line["id"])
        assert before["data"] == complete["data"][max(at - limit, 0) : at]
        assert before["has_more"] == (at > limit)
    api.post(f"{LINES}/settle", **query, document="run 11")
    assert api.list_all(LINES, **query, limit=limit) == complete["data"]
    cursor = complete["data"][3]["id"]
    assert api.get(LINES, **PERIOD_OF_11TH, starting_after=cursor)["data"] == []
    assert max(len(line["id"]) for line in complete["data"]) < 500


def test_a_page_reads_only_the_kinds_of_lines_that_are_on_it(
    closed: Ledger, api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full page of usage computes no adjustment, and a page that follows an adjustment reads no usage."""
    first, second, third = api.get(LINES, **PERIOD_OF_11TH, limit=3)["data"]

    def fail(_: InvoiceLineReader) -> None:
        raise AssertionError("These lines are not on the page.")

    with monkeypatch.context() as patched:
        patched.setattr(InvoiceLineReader, "adjustments", fail)
        assert api.get(LINES, **PERIOD_OF_11TH, limit=1)["data"] == [first]
        assert api.get(LINES, **PERIOD_OF_11TH, ending_before=second["id"])["data"] == [first]
    monkeypatch.setattr(InvoiceLineReader, "usage", fail)
    assert len(api.get(LINES, **PERIOD_OF_11TH, starting_after=third["id"])["data"]) == 4


def test_lines_are_selected_by_meter_and_read_as_of_an_earlier_time(closed: Ledger, api: ApiClient) -> None:
    """Several meters are possible."""
    calls, seats = (api.meter_path(name).rpartition("/")[2] for name in ("calls", "seats"))
    of_seats = api.get(LINES, **PERIOD_OF_11TH, meters=[seats])["data"]
    assert [text_of(line) for line in of_seats] == ["adjustment xxxx 10: 1"]
    both = api.get(LINES, **PERIOD_OF_11TH, meters=[calls, seats], limit=100)
    assert both == api.get(LINES, **PERIOD_OF_11TH, limit=100)
    earlier = api.get(LINES, **PERIOD_OF_11TH, meters=[calls], as_of=unix_time("11T12:00"), limit=100)["data"]
    assert [text_of(line) for line in earlier] == [
        "adjustment acme 10 ap: 2", "adjustment acme 10 us: -3", "adjustment zeta 10: 9",
    ]  # fmt: skip


def test_lines_are_settled_as_of_their_position(closed: Ledger, api: ApiClient) -> None:
    """By one document; usage that arrived since stays owed. The same request again settles nothing more."""
    lines = api.get(LINES, **PERIOD_OF_11TH, limit=100)
    closed.given("14:00  beta calls 7  region=eu  recorded=12T03:00")
    request: Json = {**PERIOD_OF_11TH, "as_of_position": lines["position"], "document": "run 11"}
    key = {"Idempotency-Key": "k1"}
    settled = api.post(f"{LINES}/settle", **request, headers=key)
    assert settled == {
        "object": "billing.invoice_line_settlement", "document": "run 11", "livemode": True, "not_settled": [],
        "not_settled_count": 0,
        "settled": 4,
        **PERIOD_OF_11TH,
    }  # fmt: skip
    head = closed.position()
    assert api.post(f"{LINES}/settle", **request, headers=key) == settled
    assert api.post(f"{LINES}/settle", **request) == settled
    assert closed.position() == head
    owed = api.get(LINES, **PERIOD_OF_11TH, limit=100)["data"]
    assert [text_of(line) for line in owed if line["kind"] == "adjustment"] == ["adjustment beta 10: 7"]
    (admin,) = (one for one in closed.metering.access_keys.list() if "admin" in one.scopes)
    (late,) = closed.metering.periods.list("calls", "zeta")
    assert [(one.document, one.by, one.difference) for one in late.settlements] == [("run 11", admin.hint, 9)]
    assert closed.metering.verify().is_equal


def test_only_the_lines_of_some_meters_are_settled(closed: Ledger, api: ApiClient) -> None:
    """With an author of its own."""
    seats = api.meter_path("seats").rpartition("/")[2]
    query: Json = {**PERIOD_OF_11TH, "meters": [seats]}
    position = api.get(LINES, **query)["position"]
    settled = api.post(f"{LINES}/settle", **query, as_of_position=position, document="run 11", by="finance")
    assert settled["settled"] == 1
    (closed_period,) = closed.metering.periods.list("seats", LONG_NAME)
    assert (closed_period.settlements[0].by, closed_period.settlements[0].on_behalf_of) == (api.author(), "finance")
    assert len(api.get(LINES, **PERIOD_OF_11TH, limit=100)["data"]) == 6


def test_the_lines_of_one_customer(closed: Ledger, api: ApiClient) -> None:
    """They are listed, and settled by a document of its own."""
    query: Json = {**PERIOD_OF_11TH, "customer": "beta"}
    lines = api.get(LINES, **query, limit=100)
    assert {line["customer"] for line in lines["data"]} == {"beta"}
    settled = api.post(f"{LINES}/settle", **query, as_of_position=lines["position"], document="INV-7")
    assert settled["settled"] == len([line for line in lines["data"] if line["kind"] == "adjustment"])
    others = api.get(LINES, **PERIOD_OF_11TH, limit=100)["data"]
    assert "beta" not in {line["customer"] for line in others if line["kind"] == "adjustment"}


def test_invalid_requests_are_rejected(closed: Ledger, api: ApiClient) -> None:
    """The error names the parameter, and nothing is settled."""
    lines = api.get(LINES, **PERIOD_OF_11TH, limit=100)
    settle, head = f"{LINES}/settle", closed.position()
    request: Json = {**PERIOD_OF_11TH, "as_of_position": lines["position"], "document": "run 11"}
    for missing in request:
        others = {name: value for name, value in request.items() if name != missing}
        assert api.error("POST", settle, **others) == (400, "parameter_missing", missing)
    reversed_period: Json = {"start_time": unix_time("12"), "end_time": unix_time("11")}
    for method, path, params in (("GET", LINES, PERIOD_OF_11TH), ("POST", settle, request)):
        assert api.error(method, path, **params | reversed_period) == (400, "invalid_time_range", "start_time")
        assert api.error(method, path, **params, meters=["mtr_none"]) == (400, "resource_missing", "meters")
    for scope in ("read", "record"):
        assert api.error("POST", settle, scope, **request) == (403, "more_permissions_required", "")
    assert api.error("GET", LINES, "record", **PERIOD_OF_11TH) == (403, "more_permissions_required", "")
    usage, adjustment = lines["data"][0]["id"], lines["data"][2]["id"]
    other_day: Json = {"start_time": unix_time("12"), "end_time": unix_time("13")}
    earlier_day: Json = {"start_time": unix_time("10"), "end_time": unix_time("11")}
    for cursor, params in (("mtrline_none", PERIOD_OF_11TH), (usage, other_day), (adjustment, earlier_day)):
        assert api.error("GET", LINES, **params, starting_after=cursor) == (400, "resource_missing", "starting_after")
    assert closed.position() == head


def test_an_adjustment_that_is_settled_otherwise_is_reported(closed: Ledger, api: ApiClient) -> None:
    """A document that settled a period as of another position, or a later settlement, is no result of the request."""
    lines = api.get(LINES, **PERIOD_OF_11TH, limit=100)
    (beta,) = (line for line in lines["data"] if (line["kind"], line["customer"]) == ("adjustment", "beta"))
    settle = f"{ADJUSTMENTS}/{beta['period_adjustment']}/settle"
    closed.given("14:00  beta calls 7  region=eu  recorded=12T03:00")
    api.post(settle, document="run 11")
    request: Json = {**PERIOD_OF_11TH, "as_of_position": lines["position"]}
    for document, code in (("run 11", "settlement_exists"), ("run 12", "adjustment_not_found")):
        result = api.post(f"{LINES}/settle", **request, document=document)
        (not_settled,) = (one for one in result["not_settled"] if one["customer"] == "beta")
        assert (not_settled["code"], not_settled["start_time"]) == (code, unix_time("10"))
    assert result["settled"] == 0


def test_a_position_that_does_not_exist_yet_is_named(closed: Ledger, api: ApiClient) -> None:
    """Both requests that settle name the parameter that has it."""
    line = api.get(LINES, **PERIOD_OF_11TH, limit=100)["data"][-1]
    request: Json = {"document": "INV-8", "as_of_position": closed.position() + 1}
    error = 400, "invalid_as_of", "as_of_position"
    assert api.error("POST", f"{LINES}/settle", **PERIOD_OF_11TH, **request) == error
    assert api.error("POST", f"{ADJUSTMENTS}/{line['period_adjustment']}/settle", **request) == error
