"""The access log of a server names a customer as its setting says, on every path of the console and the API."""

import json
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from hashlib import sha256

import httpx2
import pytest
from tallybook.application.interfaces.console.catalogue import all_views
from tallybook.application.interfaces.http.catalogue import all_operations
from tallybook.domain.access_key import Scope

from tests.http.running_server import RunningServer, create_key, serve
from tests.waiting import wait_until

from .ledgers import MONTH, create_ledger

CUSTOMER = "acme"
HASHED = f"sha256:{sha256(CUSTOMER.encode()).hexdigest()}"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}
PAGE = {"meter": "tokens", "customer": CUSTOMER, "period": "2026-10"}
OF_CUSTOMER = {
    "/usage": PAGE,
    "/usage.csv": PAGE,
    "/why": PAGE,
    "/why.csv": PAGE,
    "/event": {"id": "late"},
    "/periods/customer": PAGE,
    "/compare": {**PAGE, "as_of_1": "2026-10-05", "as_of_2": "2026-11-02"},
}
"""The pages that are about one customer, by their path. A page of an event has its customer."""
INVALID = {**PAGE, "period": f"{CUSTOMER}?", "id": CUSTOMER, "q": CUSTOMER, "event_name": CUSTOMER, "reason": CUSTOMER}
"""Parameters of any page, or of a form: some are invalid, and all name the customer."""


class LoggingServer:
    """A server whose log is searched."""

    def __init__(self, server: RunningServer, key: str) -> None:
        self.server, self.key = server, key

    @contextmanager
    def browser(self) -> Generator[httpx2.Client]:
        """Return a client that has logged in, and doesn't follow redirects."""
        with httpx2.Client(base_url=self.server.url, headers=SAME_ORIGIN, timeout=30) as browser:
            browser.post("/console/login", data={"key": self.key, "next": f"/console/usage?customer={CUSTOMER}"})
            yield browser

    def lines_after(self, count: int) -> list[dict[str, object]]:
        """Return all lines of the access log, once there are so many."""
        wait_until(lambda: len(self.access_lines()) >= count, lambda: self.server.log_text)
        return self.access_lines()

    def access_lines(self) -> list[dict[str, object]]:
        """Return the lines of the access log."""
        return [line for line in self.server.log if "path" in line]


@pytest.fixture(scope="module")
def ledger_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of the ledger of both servers."""
    return create_ledger(tmp_path_factory.mktemp("console") / "usage.db")


@pytest.fixture(scope="module", params=["hidden", "hashed"])
def setting(request: pytest.FixtureRequest) -> str:
    """How the access log names customers."""
    return str(request.param)


@pytest.fixture(scope="module")
def logging_server(setting: str, ledger_url: str) -> Iterator[LoggingServer]:
    """A server with a console."""
    origins = json.dumps(["https://app.example.com"])
    settings = {"TALLYBOOK_ACCESS_LOG_CUSTOMERS": setting, "TALLYBOOK_CONSOLE_EMBED_ORIGINS": origins}
    with serve(ledger_url, "--console", **settings) as server:
        yield LoggingServer(server, create_key(ledger_url, *Scope))


def test_a_page_about_a_customer_is_logged_with_the_customer(logging_server: LoggingServer, setting: str) -> None:
    """As a query of the API is. Its path is that of the page, without parameters."""
    count = len(logging_server.access_lines())
    with logging_server.browser() as browser:
        for path, params in OF_CUSTOMER.items():
            assert browser.get(f"/console{path}", params=params).status_code == 200, path
        assert browser.get(f"/console/usage?meter=tokens&{MONTH}").status_code == 200
        with logging_server.server.client(logging_server.key) as api:
            token = api.post("/v1/billing/embed_tokens", data={"customer": CUSTOMER}).json()["token"]
        assert browser.get("/console/embed", params={"token": token, "period": "2026-10"}).status_code == 200
    lines = logging_server.lines_after(count + 1 + len(OF_CUSTOMER) + 3)[count + 1 :]
    text = HASHED if setting == "hashed" else None
    pages = [*((f"/console{path}", text) for path in OF_CUSTOMER), ("/console/usage", None)]
    assert [(line["path"], line.get("customer")) for line in lines][: len(pages)] == pages
    assert [(line["path"], line.get("customer")) for line in lines][-1] == ("/console/embed", text)


def test_nothing_else_in_the_log_names_a_customer(logging_server: LoggingServer) -> None:
    """No page, form or operation: with valid and invalid parameters, with and without a login, redirected or not."""
    count, requests = len(logging_server.access_lines()), 0
    with logging_server.browser() as browser, httpx2.Client(base_url=logging_server.server.url, timeout=30) as stranger:
        for view in all_views():
            for client in (browser, stranger):
                for params in (PAGE, INVALID):
                    if view.method == "GET":
                        client.get(f"/console{view.path}", params=params, headers=SAME_ORIGIN)
                    else:
                        form = {**params, "form_key": f"key-{requests}"}
                        client.post(f"/console{view.path}", data=form, headers=SAME_ORIGIN, params=params)
                    requests += 1
        with logging_server.server.client(logging_server.key) as api:
            for operation in all_operations():
                path = operation.path.replace("{", "").replace("}", f"_{CUSTOMER}")
                if operation.method == "GET":
                    api.get(path, params=INVALID)
                else:
                    api.request(operation.method, path, data=INVALID)
                requests += 1
        for path in (f"/console/{CUSTOMER}", f"/{CUSTOMER}", f"/v1/{CUSTOMER}?customer={CUSTOMER}"):
            browser.get(path)
    lines = logging_server.lines_after(count + requests)
    assert {200, 303, 400, 401, 404} <= {line["status"] for line in lines}
    assert CUSTOMER not in logging_server.server.log_text.replace(HASHED, "")
