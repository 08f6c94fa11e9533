"""Who may use the console: sessions, revoked keys, requests of other sites, other hosts, frames and scopes."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from starlette.datastructures import Headers
from tallybook.application.access_keys.views import AccessKeyView
from tallybook.application.interfaces.console.catalogue import all_views
from tallybook.application.interfaces.console.security import HEADERS, Site
from tallybook.application.interfaces.console.sessions import IDLE_LIFETIME, LIFETIME, SESSION_KIND, Sessions
from tallybook.application.interfaces.http.authentication import Authenticator
from tallybook.domain.access_key import Scope

from tallybook import Metering
from tests.http.running_server import RunningServer, create_key, serve

from .ledgers import MONTH, create_ledger

USAGE = f"/console/usage?meter=tokens&customer=acme&{MONTH}"
OPERATIONS = {
    "/event/cancel": ("POST", "/v1/billing/meter_event_adjustments"),
    "/event/revoke": ("POST", "/v1/billing/meter_event_adjustments/revoke"),
    "/import": ("POST", "/v1/billing/imports"),
    "/import/record": ("POST", "/v1/billing/imports"),
    "/periods/close": ("POST", "/v1/billing/tasks"),
    "/periods/customer/close": ("POST", "/v1/billing/closed_periods"),
    "/periods/customer/reopen": ("POST", "/v1/billing/closed_periods/x/reopen"),
    "/periods/customer/settle": ("POST", "/v1/billing/period_adjustments/x/settle"),
    "/proposal/approve": ("POST", "/v1/billing/proposals/x/approve"),
    "/proposal/preview": ("POST", "/v1/billing/proposals/x/preview"),
    "/proposal/reject": ("POST", "/v1/billing/proposals/x/reject"),
    "/proposals/reopening": ("POST", "/v1/billing/proposals/reopening"),
    "/proposals/rules": ("POST", "/v1/billing/proposals/rules"),
    "/rules/preview": ("POST", "/v1/billing/meters/x/rules_preview"),
    "/rules/promote": ("POST", "/v1/billing/meters/x/rules"),
    "/rules/drop": ("DELETE", "/v1/billing/projection/generations/0"),
    "/trust/verify": ("POST", "/v1/billing/tasks"),
}
"""The HTTP operation that makes the same change, by the path of a form."""
BODIES = {
    "/periods/close": {"type": "billing_run"},
    "/trust/verify": {"type": "verification", "meters": ["none"]},
}
"""Parameters, not valid, of operations whose scope depends on them."""
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}


@pytest.fixture(scope="module")
def ledger_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the ledger of these tests."""
    return create_ledger(tmp_path_factory.mktemp("console") / "usage.db")


@pytest.fixture(scope="module")
def server(ledger_url: str) -> Iterator[RunningServer]:
    """A server with the API and the console, which accepts old cancellations."""
    with serve(ledger_url, "--console", TALLYBOOK_POLICY__CANCEL_WINDOW="none") as running:
        yield running


@pytest.fixture
def browser(server: RunningServer) -> Iterator[httpx2.Client]:
    """A client with cookies that sends the headers of a browser and follows no redirects."""
    with httpx2.Client(base_url=server.url, headers=SAME_ORIGIN, timeout=30) as client:
        yield client


def log_in(browser: httpx2.Client, key: str, next_page: str = "") -> httpx2.Response:
    """Send the login form."""
    return browser.post("/console/login", data={"key": key, "next": next_page})


def cancel_form(page: str) -> dict[str, str]:
    """Return the hidden fields of the form on the page of an event."""
    form = page[page.rindex('<form class="panel"') :]
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))


def test_a_login_leads_to_the_wanted_page(browser: httpx2.Client, ledger_url: str) -> None:
    """Without a session, a page leads to the login, and from there back. The cookie is for the console only."""
    redirect = browser.get(USAGE)
    assert (redirect.status_code, redirect.headers["location"].partition("?")[0]) == (303, "/console/login")
    login_page = browser.get(redirect.headers["location"]).text
    next_page = re.findall(r'name="next" value="([^"]*)"', login_page)[0].replace("&amp;", "&")
    response = log_in(browser, create_key(ledger_url, "read"), next_page)
    assert (response.status_code, response.headers["location"]) == (303, USAGE)
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Path=/console" in cookie
    assert "Secure" not in cookie, "it is served without TLS here"
    page = browser.get(USAGE)
    assert page.status_code == 200
    assert {name: page.headers[name] for name in HEADERS} == dict(HEADERS)
    assert page.headers["cache-control"] == "no-store"
    assert browser.post("/console/logout").status_code == 303
    browser.cookies.clear()
    assert browser.get(USAGE).status_code == 303


@pytest.mark.parametrize(
    "next_page", ["https://evil.example", "//evil.example", "/v1/billing/meters", "/console/\\evil"]
)
def test_a_login_leads_to_no_other_site(browser: httpx2.Client, ledger_url: str, next_page: str) -> None:
    """The page to go to is one of the console."""
    assert log_in(browser, create_key(ledger_url, "read"), next_page).headers["location"] == "/console/"


def test_a_key_without_the_scope_read_cannot_log_in(browser: httpx2.Client, ledger_url: str) -> None:
    """A key that only records shows nothing."""
    with Metering.open(ledger_url) as metering:
        limited = metering.access_keys.create(["read"], customers=["acme"]).key
    rejected = {create_key(ledger_url, "record"): 403, limited: 403, "tb_live_no_key": 401, "": 401}
    valid = create_key(ledger_url, "read")
    for key, status in rejected.items():
        response = log_in(browser, key)
        assert (response.status_code, "set-cookie" in response.headers) == (status, False)
        assert log_in(browser, valid).status_code == 303, "and the next failure waits no longer than the first one"


def test_a_revoked_key_ends_its_sessions_at_once(browser: httpx2.Client, ledger_url: str) -> None:
    """Another process revokes the key; the next request has no session."""
    key = create_key(ledger_url, "read")
    log_in(browser, key)
    assert browser.get(USAGE).status_code == 200
    with Metering.open(ledger_url) as metering:
        metering.access_keys.revoke(metering.access_keys.authenticate(key).id)
    assert browser.get(USAGE).headers["location"].startswith("/console/login")


@pytest.mark.parametrize("is_test", [False, True])
def test_an_administrator_sees_the_keys_of_one_mode(browser: httpx2.Client, ledger_url: str, *, is_test: bool) -> None:
    """The live ledger stores the keys of both modes, but a key of test mode reveals nothing of the live mode."""
    keys = {test: create_key(ledger_url, "admin", test=test) for test in (False, True)}
    log_in(browser, keys[is_test])
    shown = set(re.findall(r"[rs]k_(?:live|test)_[0-9a-f]+", browser.get("/console/trust").text))
    assert any(keys[is_test].startswith(hint) for hint in shown)
    assert {"_test_" in hint for hint in shown} == {is_test}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "", "Origin": "null"},
    ],
)
def test_forms_of_other_sites_are_rejected(browser: httpx2.Client, ledger_url: str, headers: dict[str, str]) -> None:
    """Cross-site request forgery: nothing is cancelled, also with a valid session."""
    log_in(browser, create_key(ledger_url, "admin"))
    form = cancel_form(browser.get("/console/event?id=t-5-0").text)
    sent = {name: value for name, value in {**SAME_ORIGIN, **headers}.items() if value}
    with httpx2.Client(base_url=str(browser.base_url), cookies=browser.cookies, headers=sent) as other_site:
        assert other_site.post("/console/event/cancel", data={**form, "reason": "forged"}).status_code == 403
    assert "Cancel this event" in browser.get("/console/event?id=t-5-0").text


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": ""},
        {"Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Dest": "object"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_other_hosts_frames_and_embedded_requests_are_rejected(browser: httpx2.Client, headers: dict[str, str]) -> None:
    """DNS rebinding and clickjacking: the response has no content of the ledger."""
    response = browser.get("/console/login", headers=headers)
    assert response.status_code in (400, 403)
    assert "<form" not in response.text


def test_a_form_takes_effect_once_and_is_recorded_under_the_key(browser: httpx2.Client, ledger_url: str) -> None:
    """The same form again leads to the same page; another content under its key is rejected."""
    key = create_key(ledger_url, "read", "cancel")
    log_in(browser, key)
    form = {**cancel_form(browser.get("/console/event?id=t-6-0").text), "reason": "twice"}
    answers = [browser.post("/console/event/cancel", data=form) for _ in range(2)]
    assert [answer.headers["location"] for answer in answers] == ["/console/event?id=t-6-0&done=cancelled"] * 2
    assert browser.post("/console/event/cancel", data={**form, "reason": "other"}).status_code == 400
    assert browser.post("/console/event/cancel", data={"id": "t-6-0"}).status_code == 400
    with Metering.open(ledger_url) as metering:
        event, hint = metering.event("t-6-0"), metering.access_keys.authenticate(key).hint
        author = metering.history.list(identifier="t-6-0").entries[-1].author
    assert (event.reason, event.by) == ("twice", hint)
    assert (author.by, author.via, author.on_behalf_of) == (hint, "http", None)
    assert str(author.request_id).startswith("req_")


def test_too_many_fields_are_an_error_of_the_request(browser: httpx2.Client, ledger_url: str) -> None:
    """It is not logged as a failure of the server."""
    log_in(browser, create_key(ledger_url, "read"))
    assert browser.get(f"/console/usage?{'a=1&' * 300}").status_code == 400


def test_a_change_needs_the_scope_of_the_api(browser: httpx2.Client, ledger_url: str) -> None:
    """A key that reads sees no form, and the form of somebody else doesn't help."""
    log_in(browser, create_key(ledger_url, "read"))
    assert "does not have the scope cancel" in browser.get("/console/event?id=t-7-0").text
    form = {"form_key": "k", "id": "t-7-0", "event_name": "tokens", "reason": "no"}
    assert browser.post("/console/event/cancel", data=form).status_code == 403


@pytest.mark.parametrize("scope", [str(scope) for scope in Scope])
def test_each_change_needs_the_scope_of_its_operation_over_http(
    browser: httpx2.Client, ledger_url: str, scope: str
) -> None:
    """What a key with one scope beside `read` may send. Nothing changes: the requests have no parameters."""
    key = create_key(ledger_url, *{"read", scope})
    log_in(browser, key)
    bearer = {"Authorization": f"Bearer {key}"}
    in_console = {path: browser.post(f"/console{path}").status_code != 403 for path in OPERATIONS}
    over_http = {
        path: browser.request(*operation, headers=bearer, json=BODIES.get(path)).status_code != 403
        for path, operation in OPERATIONS.items()
    }
    assert in_console == over_http


def test_the_operation_of_every_change_is_known() -> None:
    """A new form of the console needs an entry in OPERATIONS."""
    assert {view.path for view in all_views() if view.method == "POST"} == set(OPERATIONS)


def test_the_origin_of_a_console_behind_a_proxy() -> None:
    """With a configured address, its host and origin are the only ones, and cookies need TLS."""
    site = Site.of("0.0.0.0", "https://usage.example.com")
    assert site.is_https
    assert site.rejection("GET", _headers(host="usage.example.com")) is None
    assert site.rejection("POST", _headers(host="usage.example.com", origin="https://usage.example.com")) is None
    assert site.rejection("POST", _headers(host="usage.example.com", origin="http://usage.example.com")) is not None
    assert site.rejection("GET", _headers(host="localhost")) is not None


def test_sessions_end_without_use_and_after_a_day(tmp_path: Path) -> None:
    """A token is stored as a hash only. The clock is moved, not waited for."""
    now = [datetime(2026, 11, 1, tzinfo=UTC)]
    with Metering.open(f"sqlite:///{tmp_path / 'usage.db'}", clock=lambda: now[0]) as metering:
        key_values = metering.key_value_store()
        sessions = Sessions(key_values, Authenticator(metering), lambda: now[0])
        key = metering.access_keys.create(["read"]).key

        def after(step: timedelta, token: str) -> AccessKeyView | None:
            now[0] += step
            return sessions.authenticate(token)

        almost = IDLE_LIFETIME - timedelta(seconds=1)
        token = sessions.create(key).token
        assert token not in str(key_values.scan(SESSION_KIND, limit=10))
        assert after(almost, token) is not None
        assert after(almost, token) is not None, "the request before has renewed it"
        assert after(LIFETIME - 2 * almost, token) is None, "a day has passed"
        token = sessions.create(key).token
        assert after(IDLE_LIFETIME, token) is None
        token = sessions.create(key).token
        assert len(key_values.scan(SESSION_KIND, limit=10)) == 1, "expired ones are deleted"
        sessions.end(token)
        assert after(timedelta(0), token) is None


def _headers(**values: str) -> Headers:
    return Headers(values)
