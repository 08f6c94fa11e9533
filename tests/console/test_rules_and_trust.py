"""Long work that a page starts: previews of rules, and verification, with progress that a reload shows."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from tallybook.application.checkpoints.verify_proof import verify_inclusion
from tallybook.application.interfaces.console.local_access import LocalAccess
from tallybook.application.system_user import system_user

from tallybook import Metering
from tests.waiting import wait_until

from .ledgers import LocalConsole, create_ledger, local_console


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ledger and a checkpoint file."""
    path = tmp_path_factory.mktemp("rules")
    with Metering.open(create_ledger(path / "usage.db")) as metering:
        metering.checkpoints.create(path / "checkpoints")
    return path


@pytest.fixture(scope="module")
def console(folder: Path) -> Iterator[LocalConsole]:
    """A local console with an access log."""
    options = ("--checkpoints", str(folder / "checkpoints"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("TALLYBOOK_ACCESS_LOG_FILE", str(folder / "access.log"))
        monkeypatch.setenv("TALLYBOOK_ACCESS_LOG_CUSTOMERS", "named")
        with local_console(f"sqlite:///{folder / 'usage.db'}", *options) as running:
            yield running


@pytest.fixture(scope="module")
def client(console: LocalConsole) -> Iterator[httpx2.Client]:
    """A client of a local console that has opened its address."""
    headers = {"Sec-Fetch-Site": "same-origin"}
    with httpx2.Client(
        base_url=console.url, headers=headers, follow_redirects=True, timeout=60, verify=False
    ) as browser:
        browser.get(console.start_url)
        yield browser


def fields(html: str, action: str) -> dict[str, str]:
    """Return the hidden fields of the form with an action."""
    form = html[html.index(f'action="/console{action}"') :].partition("</form>")[0]
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))


def page_with(client: httpx2.Client, path: str, text: str) -> str:
    """Return a page as soon as it has a text."""
    pages: list[str] = []

    def has_text() -> bool:
        response = client.get(path)
        assert response.status_code == 200, response.text
        pages.append(response.text)
        return text in response.text

    wait_until(has_text, lambda: pages[-1])
    return pages[-1]


def test_another_user_of_the_computer_sees_and_changes_nothing(console: LocalConsole, client: httpx2.Client) -> None:
    """Without the printed address, each page is 403; the cookie is sent to no other site, and to no script."""
    form = {**fields(client.get("/console/event?id=t-9-0").text, "/event/cancel"), "reason": "no"}
    with httpx2.Client(base_url=console.url, headers=dict(client.headers), timeout=60) as other:
        for path in ("/console/usage?meter=tokens", "/console/usage.csv?meter=tokens", "/console/customers?q=a"):
            assert other.get(path).status_code == 403
        assert other.post("/console/event/cancel", data=form).status_code == 403
        wrong = other.get(f"/console/start?token={'x' * 43}&next=/console/trust")
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (303, False)
        assert "belongs to the user who started it" in other.get("/console/trust").text
        cookie = other.get(console.start_url).headers["set-cookie"]
        assert all(flag in cookie for flag in ("HttpOnly", "SameSite=strict", "Path=/console")), cookie
        assert other.get("/console/trust").status_code == 200, "the printed address can be opened again"
    assert client.get("/console/event?id=t-9-0").text.count("Cancel this event"), "it was not cancelled"


def test_the_address_for_the_browser_is_valid_once() -> None:
    """It is an argument of a program, which other users see."""
    access = LocalAccess()
    app = Starlette(routes=[Mount("/console", routes=[access.route()])])

    async def has_cookie(address: str) -> bool:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as browser:
            response = await browser.get(address)
            assert response.headers["location"] == "/console/trust"
            return access.admits(browser.cookies)

    first, printed = access.one_time_address("/console/trust"), access.address("/console/trust")
    used = [asyncio.run(has_cookie(address)) for address in (first, first, printed, printed)]
    assert used == [True, False, True, True]


def test_a_change_of_rules_is_previewed_by_customer_and_promoted(client: httpx2.Client, folder: Path) -> None:
    """Closed periods differ too, and are listed apart. The way back is the retired generation."""
    form = fields(client.get("/console/rules?meter=tokens").text, "/rules/preview")
    changed = {**form, "formula": "count", "event_time_window": "none"}
    preview = client.post("/console/rules/preview", data=changed).url
    html = page_with(client, str(preview), "Whose totals the change would change")
    assert html.index("Closed periods</h2>") < html.index(">acme</a>"), "the month is closed for all of them"
    promoted = {**fields(html, "/rules/promote"), "reason": "we bill by event"}
    assert "The generation is live." in client.post("/console/rules/promote", data=promoted).text
    with Metering.open(f"sqlite:///{folder / 'usage.db'}") as metering:
        last = metering.meters.history("tokens")[-1]
        assert (last.rules.formula, last.reason) == ("count", "we bill by event")
        retired = max(one.number for one in metering.generations.list() if "tokens" in one.rules)
    back = {"form_key": "back", "generation": str(retired), "reason": "a mistake", "meter": "tokens"}
    assert "The generation is live." in client.post("/console/rules/promote", data=back).text


def test_a_change_that_changes_nothing_says_so(client: httpx2.Client) -> None:
    """The form has the present rules."""
    html = client.get("/console/rules?meter=storage").text
    same = {"formula": "last", "event_time_window": "day", "rounding": "up:1"}
    response = client.post("/console/rules/preview", data={**fields(html, "/rules/preview"), **same})
    assert response.status_code == 400
    assert "Change at least one" in response.text


def test_rules_that_are_not_valid_are_shown_again_with_the_error(client: httpx2.Client, folder: Path) -> None:
    """No task is started. The form has what was entered, and can be corrected and sent again."""
    page = client.get("/console/rules?meter=storage").text
    entered = {"formula": "max", "event_time_window": "day", "multiplier": "abc", "effective_from": "2027-01-01"}
    response = client.post("/console/rules/preview", data={**fields(page, "/rules/preview"), **entered})
    assert response.status_code == 400
    html = response.text
    assert re.search(r'role="alert">[^<]*multiplier[^<]*abc', html)
    for name in ("multiplier", "effective_from"):
        assert re.search(rf'name="{name}"[^>]* value="{entered[name]}"', html)
    assert '<option value="max" selected>' in html
    midday = {**entered, "multiplier": "2", "effective_from": "2027-01-01T12:00"}
    again = client.post("/console/rules/preview", data={**fields(html, "/rules/preview"), **midday})
    assert "at the start of a UTC day only" in again.text
    with Metering.open(f"sqlite:///{folder / 'usage.db'}") as metering:
        assert all(task.status != "failed" for task in metering.tasks.list())


def test_a_rule_that_changes_later_is_applied_with_all_others(client: httpx2.Client, folder: Path) -> None:
    """A change of another rule is rejected unless the form says that all of its rules apply."""
    with Metering.open(f"sqlite:///{folder / 'usage.db'}") as metering:
        later = datetime(2100, 1, 1, tzinfo=UTC)
        metering.rules.change("storage", {"multiplier": "2"}, reason="announced", effective_from=later)
    form = fields(client.get("/console/rules?meter=storage").text, "/rules/preview")
    entered = {**form, "formula": "max", "event_time_window": "day", "rounding": "up:1"}
    rejected = client.post("/console/rules/preview", data=entered)
    assert rejected.status_code == 400
    assert "changes for usage from 2100-01-01T00:00:00Z on" in rejected.text
    preview = client.post("/console/rules/preview", data={**entered, "all_rules": "1"}).url
    page_with(client, str(preview), "Whose totals the change would change")


def test_a_page_about_one_customer_is_logged(client: httpx2.Client, folder: Path) -> None:
    """With the user who runs the console: what it reads for the page of a customer, and of an event."""
    (folder / "access.log").write_text("")
    for path in ("usage?meter=tokens&period=2026-10&customer=acme", "event?id=t-3-0", "usage?meter=tokens"):
        assert client.get(f"/console/{path}").status_code == 200
    lines = [json.loads(line) for line in (folder / "access.log").read_text().splitlines()]
    assert {"total", "event"} <= {line["operation"] for line in lines}
    assert {(line["customer"], line["by"], line["via"]) for line in lines} == {("acme", system_user(), "command_line")}


def test_the_ledger_is_verified_in_the_background(client: httpx2.Client) -> None:
    """The result stays on the page, with who has started it."""
    client.post("/console/trust/verify", data=fields(client.get("/console/trust").text, "/trust/verify"))
    page_with(client, "/console/trust", "Everything matches")
    page_with(client, "/console/trust", "1 of 1 checkpoints match")


def test_the_proof_of_an_event_can_be_downloaded(client: httpx2.Client, folder: Path) -> None:
    """The downloaded files verify with the checkpoint, as those of the command line do."""
    links = re.findall(r'href="(/console/trust/proof[^"]*)"', client.get("/console/event?id=t-3-0").text)
    files = [client.get(link.replace("&amp;", "&")) for link in links]
    verified = [
        verify_inclusion(event.content, proof.text, checkpoints=folder / "checkpoints")
        for proof, event in zip(files[::2], files[1::2], strict=True)
    ]
    assert [one.topic for one in verified] == ["UsageRecorded", "EventCancelled"]


def test_a_period_is_closed_for_all_customers_in_the_background(client: httpx2.Client, folder: Path) -> None:
    """The page of the period shows the progress, then the result."""
    html = client.get("/console/periods/close?period=2026-10").text
    form = {**fields(html, "/periods/close"), "of_meter": "storage"}
    page = client.post("/console/periods/close", data=form).url
    assert "No. All usage of 2026-10" in page_with(client, str(page), "has closed the period for 3 customers")
    with Metering.open(f"sqlite:///{folder / 'usage.db'}") as metering:
        assert metering.periods.runs()[-1].event_names == ("storage",)
        closings = [one for one in metering.history.list(event_name="storage").entries if one.event == "PeriodClosed"]
    authors = {(one.author.by, one.author.via, one.author.on_behalf_of) for one in closings}
    assert authors == {(system_user(), "command_line", None)}, "a task has the author of the form that started it"


def test_a_change_that_needs_approval_since_the_page_was_shown(client: httpx2.Client, folder: Path) -> None:
    """The preview is shown as before; the promotion and the reopening change nothing."""
    with Metering.open(f"sqlite:///{folder / 'usage.db'}") as metering:
        metering.proposals.set_policy(["rules", "reopening"], by="ops")
        candidate = metering.generations.build_candidate("tokens", {"formula": "max"}).number
        head = metering.catch_up()
    period = {"meter": "tokens", "customer": "acme", "period": "2026-10"}
    for path, form in (
        ("/console/rules/promote", {"meter": "tokens", "generation": str(candidate)}),
        ("/console/periods/customer/reopen", period),
    ):
        response = client.post(path, data={"form_key": f"approval {path}", "reason": "why", **form})
        assert response.status_code == 403, response.text
        for text in ("Needs approval", "requires a second person", "it offers to propose the change"):
            assert text in response.text
    with Metering.open(f"sqlite:///{folder / 'usage.db'}") as metering:
        assert metering.catch_up() == head
