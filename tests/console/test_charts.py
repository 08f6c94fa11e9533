"""The geometry of charts: scales, empty windows, stacks, and values that flatten the rest."""

from decimal import Decimal

import pytest
from tallybook.application.interfaces.console.charts import HEIGHT, Scale, Slot, draw_chart


def slots(*values: str | None) -> list[Slot]:
    """Return windows with one value each; None is an empty one."""
    return [Slot(str(index), "/", [Decimal(value or 0)], value is None) for index, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "scale", "labels"),
    [
        (("1",), "linear", ["0", "0.25", "0.5", "0.75", "1"]),
        (("17", "3"), "linear", ["0", "5", "10", "15", "20"]),
        (("-40", "40"), "linear", ["-40", "-20", "0", "20", "40"]),
        ((None, None), "linear", ["0", "1"]),
        (("1000000000000", "1"), "log", ["0", "1", "1,000", "1,000,000", "1,000,000,000", "1,000,000,000,000"]),
        (("-5", "90"), "log", ["-10", "-1", "0", "1", "10", "100"]),
    ],
)
def test_the_scale_has_round_numbers(values: tuple[str | None, ...], scale: Scale, labels: list[str]) -> None:
    """It includes zero and all values, on both sides."""
    assert [tick.label for tick in draw_chart(slots(*values), [], scale).ticks] == labels


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_bars_are_inside_of_the_chart_and_stacked_without_gaps(scale: Scale) -> None:
    """The parts of a stack follow each other, from zero up."""
    chart = draw_chart([Slot("a", "/", [Decimal(30), Decimal(0), Decimal(12)])], ["x", "y", "z"], scale)
    first, second = chart.slots[0].bars
    assert (first.series, second.series) == (0, 2)
    assert float(first.y) == pytest.approx(float(second.y) + float(second.height), abs=0.02)
    assert float(first.y) + float(first.height) == pytest.approx(float(chart.zero), abs=0.02)
    assert 0 <= float(second.y) <= HEIGHT


def test_an_empty_window_has_no_bar_and_stays_in_its_place() -> None:
    """A window whose usage adds up to zero isn't empty."""
    chart = draw_chart(slots("5", None, "0"), [])
    assert [(bool(drawn.bars), drawn.slot.is_empty) for drawn in chart.slots] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    assert [drawn.x for drawn in chart.slots] == ["0", "10", "20"]


@pytest.mark.parametrize(("values", "is_flat"), [(("1", "2", "500"), True), (("1", "2", "3"), False), ((None,), False)])
def test_a_value_that_flattens_the_rest_is_noticed(values: tuple[str | None, ...], is_flat: bool) -> None:
    """The page offers a logarithmic scale then."""
    assert draw_chart(slots(*values), []).is_flat is is_flat
