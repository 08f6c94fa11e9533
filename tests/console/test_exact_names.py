"""Names that differ by a space alone: each page, form and link is about the name that it states."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from urllib.parse import urlencode

import pytest
from tallybook.application.interfaces.console.catalogue import all_views
from tallybook.application.interfaces.console.local_access import LocalAccess
from tallybook.application.interfaces.console.query_string import Parameters
from tallybook.application.interfaces.console.registry import ViewContext
from tallybook.application.interfaces.console.users import LocalUser

from .test_same_text import figure
from .views import Views, open_views

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
VALUES = {"acme": "1", "acme ": "20", "\u00a0acme": "300", "  ": "4000"}


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    """Return the views of a ledger whose customers, and identifiers, differ by spaces."""
    with open_views(tmp_path_factory.mktemp("console") / "usage.db", NOW) as opened:
        opened.metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
        for name, value in VALUES.items():
            opened.metering.record("tokens", {"customer": name, "tokens": value}, identifier=name)
        yield opened


def test_a_link_leads_to_the_figure_of_its_customer(views: Views) -> None:
    """Not to that of another customer, nor to the sum of all."""
    _, html = views.page("/usage", "meter=tokens&period=2026-11")
    links = {unescape(link) for link in re.findall(r'href="/console/usage\?([^"]*customer=[^"]*)"', html)}
    assert {figure(views.page("/usage", link)[1], "Quantity")[0] for link in links} == set(VALUES.values())


@pytest.mark.parametrize("identifier", VALUES)
def test_the_event_of_the_page_is_cancelled(views: Views, identifier: str) -> None:
    """By the fields of its form."""
    _, html = views.page("/event", urlencode({"id": identifier}))
    form = {name: unescape(value) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', html)}
    access = LocalAccess()
    user = LocalUser(access).find(views.ledgers, access.cookies)
    assert user is not None
    context = ViewContext(user, views.ledgers, Parameters.parse(urlencode(form)), "/console/event/cancel")
    next(view for view in all_views() if view.path == "/event/cancel").run(context)
    cancelled = {event.identifier for event in views.metering.events("tokens") if event.cancelled_at is not None}
    assert cancelled == set(list(VALUES)[: list(VALUES).index(identifier) + 1])
