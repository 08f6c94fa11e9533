"""The screen History: all cancellations, whoever made them, on any meter."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tallybook.application.interfaces.console.views import history

from .views import open_views

pytestmark = pytest.mark.fast

NOW = datetime(2026, 11, 2, 9, tzinfo=UTC)


def test_it_answers_who_cancelled_what(tmp_path: Path) -> None:
    """By kind, by author and since when, in pages; each entry leads to what it is about."""
    with open_views(tmp_path / "usage.db", NOW - timedelta(days=200)) as views:
        for meter in ("calls", "tokens"):
            views.metering.meters.configure(meter, customer_key="customer", value_key="value")
        views.clock.at = NOW
        for number in range(104):
            meter = ("calls", "tokens")[number % 2]
            views.metering.record(meter, {"customer": "a&b", "value": "1"}, identifier=f"e-{number}", timestamp=NOW)
            views.metering.cancel(meter, f"e-{number}", reason="a test", by=("ada", "ops")[number % 2])
        views.metering.periods.close("tokens", "a&b", NOW.replace(day=1, month=9, hour=0), NOW.replace(day=1, hour=0))

        def identifiers(query: str) -> list[str]:
            return re.findall(r">event (e-\d+)<", views.page("/history", query)[1])

        html = views.page("/history", "kind=cancellations")[1]
        assert identifiers("kind=cancellations") == [f"e-{number}" for number in range(100)]
        following = re.search(r'rel="next" href="/console/history\?([^"]*)"', html)
        assert following is not None
        assert identifiers(following[1].replace("&amp;", "&")) == [f"e-{number}" for number in range(100, 104)]
        assert identifiers("by=ops") == [f"e-{number}" for number in range(1, 104, 2)]
        assert "Configured" not in html, "the meters were configured before the default range"
        assert "Configured" in views.page("/history", "recorded_from=2020-01-01")[1]
        link = re.search(r'href="([^"]*)">period a&amp;b on tokens', views.page("/history", "kind=periods")[1])
        assert link is not None
        path, _, query = link[1].replace("&amp;", "&").removeprefix("/console").partition("?")
        assert views.page(path, query)[0] == 200
        assert "No event matches" in views.page("/history", "kind=imports")[1]


def test_entries_of_a_long_ledger_are_loaded_after_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page answers at once; without scripts a link leads to the entries."""
    monkeypatch.setattr(history, "MAX_INLINE_HEAD", 0)
    with open_views(tmp_path / "usage.db", NOW) as views:
        views.metering.meters.configure("calls")
        shell = views.page("/history", "by=ada")[1]
        fragment = re.search(r'data-fragment="/console(/[^?"]*)\?([^"]*)"', shell)
        link = re.search(r'href="/console(/history)\?([^"]*details=1[^"]*)"', shell)
        assert fragment is not None
        assert link is not None
        for found in (fragment, link):
            assert "No event matches" in views.page(found[1], found[2].replace("&amp;", "&"))[1]
        assert "Configured" in views.page("/history/entries", "")[1]
        assert "Configured" not in shell
