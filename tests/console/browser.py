"""A browser for tests: Debian's chromium, driven by selenium; and axe, which checks pages for accessibility."""

import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from shutil import which
from typing import Any, cast

import pytest

CHROMIUM, CHROMEDRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
WIDE, NARROW = 1280, 390
TIMEOUT_SECONDS, SCRIPT_TIMEOUT_SECONDS = 20, 60
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")

Driver = Any
"""A driver of selenium, which has no complete type hints."""


def require_browser() -> None:
    """Skip the tests, loudly, if there is no browser."""
    missing = [file for file in (CHROMIUM, CHROMEDRIVER) if not Path(file).exists() and which(file) is None]
    if missing:
        pytest.skip(
            f"NO BROWSER, SO THE CONSOLE IS NOT TESTED IN ONE: {', '.join(missing)} missing. "
            "Install Debian's packages: apt-get install chromium chromium-driver"
        )


@contextmanager
def open_browser() -> Generator[Driver]:
    """Start a browser that logs its console and its requests, and stop it at the end."""
    from selenium import webdriver  # noqa: PLC0415 - only with a browser
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

    options = cast(Any, webdriver.ChromeOptions())
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = cast(Any, webdriver.Chrome)(options=options, service=Service(CHROMEDRIVER, env=dict(os.environ)))
    try:
        yield driver
    finally:
        driver.quit()


def axe_script() -> str:
    """Return the source of axe."""
    return files("selenium_axe_python").joinpath("axe-core", "axe.min.js").read_text("utf-8")


def set_width(driver: Driver, width: int, height: int = 900) -> None:
    """Set the size of the window in CSS pixels."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def set_scheme(driver: Driver, scheme: str) -> None:
    """Set whether the user prefers a light or a dark page."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def set_scripts(driver: Driver, *, enabled: bool) -> None:
    """Set whether pages may run scripts."""
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not enabled})


def wait_until(driver: Driver, condition: Callable[[Driver], bool]) -> None:
    """Wait until a condition of the page is true; elements may be replaced while it is checked."""
    from selenium.common.exceptions import StaleElementReferenceException  # noqa: PLC0415 - only with a browser
    from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415

    WebDriverWait(driver, TIMEOUT_SECONDS, 0.02, [StaleElementReferenceException]).until(condition)


def violations(driver: Driver, only: Sequence[str] = RULES) -> list[str]:
    """Return what axe finds on the page, by rules with some tags or of some names: the rule, and the elements.

    It is run again on the loaded page if it does not answer: on a busy machine it can begin before the page is there.
    """
    from selenium.common.exceptions import TimeoutException  # noqa: PLC0415 - only with a browser

    script = """
        const done = arguments[arguments.length - 1];
        axe.run(document, {runOnly: arguments[0], resultTypes: ['violations']}).then(
            result => done(result.violations.map(one => one.id + ': ' + one.nodes.map(node => node.html).join(' '))));
    """
    driver.set_script_timeout(SCRIPT_TIMEOUT_SECONDS)
    try:
        return driver.execute_async_script(script, list(only))
    except TimeoutException:
        driver.refresh()
        driver.get_log("browser")  # the messages of axe
        return driver.execute_async_script(script, list(only))


def requested_urls(log: list[Mapping[str, Any]]) -> set[str]:
    """Return the URLs that the browser requested, from the log of its performance."""
    messages = (json.loads(entry["message"])["message"] for entry in log)
    return {
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    }
