"""Figures of all customers together are those of the ledger, under each formula, at any time and with rounding."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tallybook import Metering

from .test_same_text import figure
from .views import Views, open_views

NOV, CHANGE, DEC = (
    datetime(2026, 11, 1, tzinfo=UTC),
    datetime(2026, 11, 25, tzinfo=UTC),
    datetime(2026, 12, 1, tzinfo=UTC),
)
BEFORE_CHANGE = "from=2026-11-01&to=2026-11-25"


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Views]:
    """A meter with `max` until 25 November, then `sum`; one that rounds up; and the other formulas."""
    with open_views(tmp_path_factory.mktemp("all") / "usage.db", datetime(2026, 11, 20, tzinfo=UTC)) as views:
        _record(views.metering)
        views.clock.at = datetime(2026, 12, 3, tzinfo=UTC)
        yield views


def _record(metering: Metering) -> None:
    metering.meters.configure("peak", formula="max", customer_key="customer", dimension_keys=["model"])
    metering.meters.configure("minutes", customer_key="customer", rounding={"mode": "up"})
    for formula in ("last", "min", "avg", "count"):
        metering.meters.configure(formula, formula=formula, customer_key="customer", value_key="value")
    for name in [meter.event_name for meter in metering.meters.list()]:
        values = ("0.3", "0.4") if name == "minutes" else ("5", "7")
        for number, value in enumerate(values):
            payload = {"customer": f"customer-{number}", "value": value, "model": f"model-{number}"}
            metering.record(name, payload, identifier=f"{name}-{number}", timestamp=NOV.replace(day=10))
    metering.rules.change("peak", {"formula": "sum"}, reason="new contract", effective_from=CHANGE)


def test_earlier_rules_hold_for_all_customers(views: Views) -> None:
    """Before the change the largest value counts, in the total and in the groups, though the rules now add up."""
    _, html = views.page("/usage", f"meter=peak&{BEFORE_CHANGE}&group_by=model")
    total = views.metering.total("peak", None, NOV, CHANGE)
    assert figure(html, "Quantity")[0] == str(total.value) == "7"
    groups = html[html.index("By model") :].partition("</table>")[0]
    assert re.findall(r'model-(\d)</th><td class="num"><data value="(\d)"', groups) == [("1", "7"), ("0", "5")]


def test_rounding_applies_once_to_all_customers(views: Views) -> None:
    """The events of all customers add up to 0.7, of which 1 is billable."""
    _, html = views.page("/usage", "meter=minutes&period=2026-11")
    assert [figure(html, label)[0] for label in ("Quantity", "Billable")] == ["0.7", "1"]


@pytest.mark.parametrize("name", ["last", "min", "avg", "count", "minutes"])
def test_the_page_shows_the_total_of_the_ledger(views: Views, name: str) -> None:
    """Under each formula, and the page says that it is no sum of customers."""
    _, html = views.page("/usage", f"meter={name}&period=2026-11")
    assert figure(html, "Quantity")[0] == format(views.metering.total(name, None, NOV, DEC).value, "f")
    assert "need not be the sum" in html


def test_the_preview_of_a_run_shows_its_control_totals(views: Views) -> None:
    """The events and the sum of their values, which the run then compares with its closings."""
    _, html = views.page("/periods/close", "period=2026-11")
    assert "change" in html.partition(">peak</th>")[2].partition("</tr>")[0], "nobody can be closed"
    rows = {name: html.partition(f">{name}</th>")[2].partition("</tr>")[0] for name in ("last", "minutes")}
    shown = {name: re.findall(r'<data value="([^"]*)"', row)[-2:] for name, row in rows.items()}
    run = views.metering.periods.run(NOV, DEC, meters=["last", "minutes"]).run
    controls = {one.event_name: [str(one.usage_count), format(one.usage_sum, "f")] for one in run.meters}
    assert shown == controls == {"last": ["2", "12"], "minutes": ["2", "0.7"]}
