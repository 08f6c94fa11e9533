"""The console in a browser: accessible on every screen, quiet, self-contained, usable by keyboard and without scripts.

One browser and one console are used by all tests.
"""

import json
import threading
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

import pytest
from tallybook.application import AcceptancePolicy
from tallybook.application.jobs.job import JobResult
from tallybook.application.jobs.running_task import TaskRun

from tallybook import Metering

from .browser import (
    NARROW,
    WIDE,
    Driver,
    axe_script,
    open_browser,
    requested_urls,
    require_browser,
    set_scheme,
    set_scripts,
    set_width,
    violations,
    wait_until,
)
from .ledgers import END, MARKUP, MONTH, SCRIPT, START, create_ledger, local_console

TOKENS = f"meter=tokens&{MONTH}"
ACME = f"{TOKENS}&customer=acme"
SCREENS = {
    "usage of all customers": f"/usage?{TOKENS}",
    "usage of a customer": f"/usage?{ACME}&group_by=model&scale=log",
    "usage as of a position": f"/usage?{ACME}&as_of=20",
    "no usage": "/usage?meter=tokens&customer=acme&period=2020",
    "no such customer": f"/usage?{TOKENS}&customer=nobody",
    "why": f"/why?{ACME}",
    "why it was invoiced": f"/why?{ACME}&closed=1",
    "why all customers": f"/why?meter=storage&{MONTH}",
    "find an event": "/event",
    "event": "/event?id=t-3-0",
    "no such event": "/event?id=nothing",
    "periods": "/periods?period=2026-10",
    "cancelled events of all customers": f"/why?{TOKENS}&show=not_counted",
    "close all customers": "/periods/close?period=2026-10",
    "a period with an adjustment": f"/periods/customer?{ACME}",
    "an open period": "/periods/customer?meter=storage&customer=acme&period=2026-10",
    "rules": "/rules?meter=storage",
    "no preview": "/rules/preview?meter=storage",
    "compare": f"/compare?{ACME}&since=20",
    "choose two moments": f"/compare?{ACME}",
    "import": "/import",
    "history": "/history?recorded_from=2020-01-01",
    "no history": "/history?by=nobody",
    "proposals": "/proposals",
    "trust": "/trust",
    "error": "/usage?meter=tokens&period=nonsense",
    "not found": "/nothing",
}


class Browser(NamedTuple):
    """A browser and the URL of the console."""

    driver: Driver
    url: str
    ledger_url: str

    def get(self, path: str) -> None:
        """Open a page of the console."""
        self.driver.get(f"{self.url}/console{path}")

    def text(self, selector: str) -> str:
        """Return the visible text of an element."""
        return self.driver.find_element("css selector", selector).text

    def expect(self, selector: str, text: str) -> None:
        """Wait until an element that contains `text` is there: a page may still be loading after a click."""

        def is_shown(driver: Driver) -> bool:
            return any(text in element.text for element in driver.find_elements("css selector", selector))

        wait_until(self.driver, is_shown)

    def press(self, *keys: str) -> None:
        """Press keys, one after another."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def focused(self) -> str:
        """Return the name or the text of the element that has the focus."""
        return self.driver.execute_script(
            "const one = document.activeElement; return one.name || one.textContent.trim() || one.tagName"
        )


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Open the browser on a console."""
    require_browser()
    url = create_ledger(tmp_path_factory.mktemp("browser") / "usage.db")
    with local_console(url) as console, open_browser() as driver:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": axe_script()})
        driver.get(console.start_url)
        yield Browser(driver, console.url, url)


def proposal_screens(ledger_url: str) -> dict[str, str]:
    """Propose a reopening and a bulk cancellation, and return their screens."""
    with Metering.open(ledger_url, policy=AcceptancePolicy(cancel_window=None)) as metering:
        propose = metering.proposals
        reopening = propose.propose_reopening("tokens", "acme", START, END, reason="wrong contract", by="ada")
        cancellation = propose.propose_cancellation("tokens", customer="acme", reason="test usage", by="ada")
    return {f"{one.kind} to approve": f"/proposal?id={one.proposal_id}" for one in (reopening, cancellation)}


def test_every_screen_is_accessible_quiet_and_self_contained(browser: Browser) -> None:
    """In light and dark: no violation of axe, no message of the browser, no request to others, no wide page."""
    problems: list[str] = []
    screens = {**SCREENS, **proposal_screens(browser.ledger_url)}
    browser.driver.get_log("performance")
    for name, path in screens.items():
        set_width(browser.driver, WIDE)
        set_scheme(browser.driver, "light")
        browser.get(path)
        problems += [f"{name}: {violation}" for violation in violations(browser.driver)]
        set_scheme(browser.driver, "dark")
        problems += [f"{name}, dark: {violation}" for violation in violations(browser.driver, ["color-contrast"])]
        set_width(browser.driver, NARROW)
        if (width := browser.driver.execute_script("return document.documentElement.scrollWidth")) > NARROW:
            problems.append(f"{name}: the page is {width} pixels wide on a narrow screen")
    expected = [message for message in browser.driver.get_log("browser") if "404" not in message["message"]]
    problems += [message["message"] for message in expected if "400" not in message["message"]]
    foreign = {url for url in requested_urls(browser.driver.get_log("performance")) if not url.startswith(browser.url)}
    if problems or foreign:
        pytest.fail("\n".join(problems + sorted(foreign)), pytrace=False)


def test_names_that_look_like_markup_are_text(browser: Browser) -> None:
    """Customers, reasons and identifiers come from outside."""
    set_width(browser.driver, WIDE)
    for path in (f"/usage?{TOKENS}", f"/why?{TOKENS}", "/event?id=t-3-0"):
        browser.get(path)
        assert not browser.driver.find_elements("css selector", "main script")
    browser.get(f"/usage?{TOKENS}")
    names = {element.text for element in browser.driver.find_elements("css selector", "tbody th a")}
    assert {SCRIPT, MARKUP, "acme"} <= names
    browser.get(f"/usage?{TOKENS}&customer={quote(SCRIPT)}")
    assert browser.text("h1") == f"Tokens of {SCRIPT}"


def test_the_keyboard_is_enough(browser: Browser) -> None:
    """From the first key to an explanation: skip to the content, fill in the form, and follow a link."""
    set_width(browser.driver, WIDE)
    browser.get(f"/usage?{TOKENS}")
    browser.press("\ue004")
    assert browser.focused() == "Skip to content"
    browser.press("\ue007")
    order: list[str] = []
    for _ in range(7):
        browser.press("\ue004")
        order.append(browser.focused())
    assert [name for name in order if name in ("meter", "customer", "period", "timezone")] == [
        "meter", "customer", "period", "timezone",
    ]  # fmt: skip
    field = browser.driver.find_element("name", "customer")
    field.send_keys("acme", "\ue007")
    browser.expect("h1", "Tokens of acme")
    browser.driver.find_element("css selector", ".actions .primary").send_keys("\ue007")
    browser.expect("h1", "Why Tokens of acme is ")


def test_customers_are_suggested_as_they_are_typed(browser: Browser) -> None:
    """The suggestions come from the ledger."""
    browser.get(f"/usage?{TOKENS}")
    browser.driver.find_element("name", "customer").send_keys("[red")
    script = "return JSON.stringify([...document.querySelectorAll('#customers option')].map(one => one.value))"

    def suggested(driver: Driver) -> bool:
        return json.loads(driver.execute_script(script)) == [MARKUP]

    wait_until(browser.driver, suggested)


def test_an_event_is_cancelled_and_restored_without_scripts(browser: Browser) -> None:
    """Each page works without scripts: the slider is a field then, and forms are sent as they are."""
    set_scripts(browser.driver, enabled=False)
    try:
        browser.get("/event?id=t-1-0")
        browser.driver.find_element("name", "reason").send_keys("sent twice")
        browser.driver.find_element("css selector", "form.panel button").click()
        browser.expect(".notice.ok", "The event is cancelled")
        browser.expect(".steps", "sent twice")
        browser.driver.find_element("name", "reason").send_keys("it was right")
        browser.driver.find_element("css selector", "form.panel button").click()
        browser.expect(".notice.ok", "counts again")
        browser.get(f"/usage?{ACME}")
        assert not browser.driver.find_element("css selector", ".slider").is_displayed()
        browser.driver.find_element("name", "as_of").send_keys("20", "\ue007")
        browser.expect(".notice", "as it was known at 20")
    finally:
        set_scripts(browser.driver, enabled=True)
    browser.get(f"/usage?{ACME}")
    assert browser.driver.find_element("css selector", ".slider").is_displayed()


def test_progress_is_shown_while_a_task_runs(browser: Browser) -> None:
    """The task runs in another process; the page follows it without a reload, and shows the result at its end."""
    is_done = threading.Event()

    def work(run: TaskRun) -> JobResult:
        run.start_stage("projecting", "events")
        run.progress(1_500, 2_000)
        is_done.wait()
        return {
            "is_equal": True, "position": 7, "closed_periods": 0, "differing_periods": 0, "differing_runs": 0,
            "differing_tables": "",
        }  # fmt: skip

    with Metering.open(browser.ledger_url) as metering:
        metering.tasks.start("verification", work)
        try:
            browser.get("/trust")
            browser.driver.execute_script("window.isTheSamePage = true")
            browser.expect("[data-task]", "1,500 of 2,000 events: projecting")
            assert browser.driver.find_element("tag name", "progress").get_property("value") == 1_500
            assert browser.driver.execute_script("return window.isTheSamePage")
            assert violations(browser.driver) == []
        finally:
            is_done.set()
        browser.expect(".notice.ok", "Everything matches at position 7")
    assert browser.driver.get_log("browser") == []
