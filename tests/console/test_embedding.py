"""The page of one customer in a page of a host application: by a token, for named origins, and of nobody else."""

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest
from tallybook.application.interfaces.console.users import embedded_user
from tallybook.application.interfaces.http.embed_tokens import EmbedTokens
from tallybook.application.interfaces.http.ledgers import LedgerRegistry

from tallybook import AcceptancePolicy, Metering
from tests.http.running_server import RunningServer, create_key, serve

from .browser import NARROW, axe_script, open_browser, require_browser, set_width, violations, wait_until
from .ledgers import MARKUP, SCRIPT, create_ledger

QUERY = "meter=tokens&period=2026-10"
FRAME = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
TOKENS = "/v1/billing/embed_tokens"


@pytest.fixture(scope="module")
def ledger_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ledger with three customers, and a derived meter whose customers are those of another key."""
    url = create_ledger(tmp_path_factory.mktemp("embedding") / "usage.db")
    with Metering.open(url) as metering:
        metering.meters.configure("by-model", source="tokens", formula="count", customer_key="model")
    return url


@pytest.fixture(scope="module")
def server(ledger_url: str) -> Iterator[RunningServer]:
    """A server whose console may be embedded by one origin."""
    with serve(ledger_url, "--console", TALLYBOOK_CONSOLE_EMBED_ORIGINS='["https://app.example.com"]') as running:
        yield running


def create_token(server: RunningServer, key: str, customer: str, **params: object) -> httpx2.Response:
    """Ask for a token, as a host application does."""
    with server.client(key) as client:
        return client.post(TOKENS, json={"customer": customer, **params})


def token_of(server: RunningServer, ledger_url: str, customer: str) -> str:
    """Return a token of a new key."""
    return create_token(server, create_key(ledger_url, "read"), customer).json()["token"]


def test_a_token_shows_one_customer_in_the_named_origin(server: RunningServer, ledger_url: str) -> None:
    """Usage and every event, without a cookie; other customers, meters of others and other pages stay hidden."""
    token = token_of(server, ledger_url, "acme")
    page = httpx2.get(f"{server.url}/console/embed?token={token}&{QUERY}", headers=FRAME)
    assert page.status_code == 200, page.text
    policy = page.headers["content-security-policy"]
    assert policy.endswith("frame-ancestors https://app.example.com")
    assert policy.startswith("default-src 'none'; style-src 'self'")
    assert "x-frame-options" not in page.headers
    assert (page.headers["referrer-policy"], page.headers["cache-control"]) == ("no-referrer", "no-store")
    assert "set-cookie" not in page.headers
    assert "<script" not in page.text
    assert '<data value="74077.55">74,077.55</data>' in page.text
    assert "by-model" not in page.text
    links = re.findall(r'href="(/console/embed[^"]*)"', page.text)
    assert links
    assert all("token=" in link and "customer=" not in link for link in links)
    why = httpx2.get(server.url + links[0].replace("&amp;", "&"), headers=FRAME)
    assert ("t-3-0" in why.text, "wrong unit" in why.text, "ops@example.com" in why.text) == (True, True, False)
    for query in (f"{QUERY}&customer={SCRIPT}", f"{QUERY}&customer=", f"{QUERY}&where=model%3Dsmall&as_of=5"):
        other = httpx2.get(f"{server.url}/console/embed?token={token}&{query}", headers=FRAME)
        assert '<data value="74077.55">' in other.text, query
    for path, status in (("embed", 404), ("embed/why", 404)):
        url = f"{server.url}/console/{path}?token={token}&meter=by-model&period=2026-10"
        hidden = httpx2.get(url, headers=FRAME)
        assert hidden.status_code == status
        assert not any(text in hidden.text for text in ("<nav", "<script", "rk_live_")), "nothing of the console"
    assert httpx2.get(f"{server.url}/console/usage?token={token}&{QUERY}").status_code == 303
    assert httpx2.get(f"{server.url}/console/usage?token={token}&{QUERY}", headers=FRAME).status_code == 403
    assert httpx2.post(f"{server.url}/console/embed?token={token}", headers=FRAME).status_code in (403, 404, 405)
    foreign_host = {**FRAME, "Host": "evil.example"}
    assert httpx2.get(f"{server.url}/console/embed?token={token}", headers=foreign_host).status_code == 403


def test_a_token_is_of_a_key_that_may_read_the_customer(server: RunningServer, ledger_url: str) -> None:
    """A limited key creates tokens of its customers; a changed token and that of a revoked key show nothing."""
    with Metering.open(ledger_url) as metering:
        limited = metering.access_keys.create(["read"], customers=[MARKUP])
        assert create_token(server, limited.key, "acme").status_code == 403
        token = create_token(server, limited.key, MARKUP, expires_in=60).json()["token"]
        assert create_token(server, create_key(ledger_url, "record"), "acme").status_code == 403
        assert create_token(server, limited.key, MARKUP, expires_in=7_200).status_code == 400

        def status(token: str) -> int:
            return httpx2.get(f"{server.url}/console/embed?token={token}&{QUERY}", headers=FRAME).status_code

        body, _, signature = token.partition(".")
        other = token_of(server, ledger_url, "acme").partition(".")[0]
        assert status(token) == 200
        invalid = ["", "tb_embed_live_", f"{body}.", f"{body}.{signature[:-2]}AA", f"{other}.{signature}", body]
        assert {status(one) for one in [*invalid, f"{token}ü", "tb_embed_test_x.y", "x" * 20_000]} <= {400, 403, 431}
        assert not any(status(one) == 200 for one in invalid)
        metering.access_keys.revoke(limited.view.id)
        assert status(token) == 403


def test_a_token_expires(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The clock is moved, not waited for."""
    now = [datetime(2026, 11, 1, tzinfo=UTC)]
    url = f"sqlite:///{tmp_path_factory.mktemp('expiry') / 'usage.db'}"
    ledgers = LedgerRegistry(url, AcceptancePolicy(), lambda: now[0])
    ledger = ledgers.for_mode(livemode=True)
    key = ledger.metering.access_keys.create(["read"])
    access_key = key.view
    tokens = EmbedTokens(ledger)
    token, expires = tokens.create(access_key, "acme", timedelta(minutes=15))
    now[0] = expires - timedelta(seconds=1)
    assert tokens.verify(token) == (access_key, "acme")
    user = embedded_user(ledgers, token)
    assert user is not None
    assert user.id != access_key.id, "customers can't use up the calls that the host application may make at once"
    now[0] = expires
    assert tokens.verify(token) is None
    ledgers.close()


def test_without_named_origins_there_is_no_such_page(ledger_url: str) -> None:
    """Nothing may be embedded unless the operator says so."""
    with serve(ledger_url, "--console") as server:
        token = token_of(server, ledger_url, "acme")
        assert httpx2.get(f"{server.url}/console/embed?token={token}&{QUERY}", headers=FRAME).status_code == 403
        assert httpx2.get(f"{server.url}/console/embed?token={token}&{QUERY}").status_code == 404


class _HostPage(BaseHTTPRequestHandler):
    """A page of a host application that shows the console's page in a frame."""

    frame_url = ""

    def do_GET(self) -> None:
        """Send the page."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(f"<!doctype html><iframe src='{self.frame_url}' width=800 height=700></iframe>".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the overridden method
        """Log nothing."""


def test_a_browser_shows_it_in_the_named_origin_only(ledger_url: str) -> None:
    """Both names of this computer are origins of their own. The page is accessible, and its links stay in the frame."""
    require_browser()
    with ThreadingHTTPServer(("127.0.0.1", 0), _HostPage) as host:  # a browser may open a connection and send nothing
        threading.Thread(target=host.serve_forever, daemon=True).start()
        port = host.server_address[1]
        origins = f'["http://localhost:{port}"]'
        with (
            serve(ledger_url, "--console", TALLYBOOK_CONSOLE_EMBED_ORIGINS=origins) as server,
            open_browser() as driver,
        ):
            url = f"{server.url}/console/embed?token={token_of(server, ledger_url, 'acme')}&{QUERY}"
            _HostPage.frame_url = url
            driver.get(f"http://localhost:{port}/")
            driver.switch_to.frame(0)
            assert driver.find_element("tag name", "h1").text == "Tokens"
            driver.find_element("css selector", ".actions .primary").click()
            wait_until(driver, lambda driver: "t-3-0" in driver.find_element("tag name", "main").text)
            assert driver.get_log("browser") == []
            driver.get(f"http://127.0.0.1:{port}/")
            driver.switch_to.frame(0)
            assert "74,077.55" not in driver.page_source
            assert any("frame-ancestors" in message["message"] for message in driver.get_log("browser"))
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": axe_script()})
            for page in (url, url.replace("/embed?", "/embed/why?"), url.replace("2026-10", "2020")):
                driver.get(page)
                assert violations(driver) == []
                set_width(driver, NARROW)
                assert driver.execute_script("return document.documentElement.scrollWidth") <= NARROW
        host.shutdown()
