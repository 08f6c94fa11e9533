"""The contract of generations that are no longer needed: the last ones stay, and older ones are dropped."""

from collections.abc import Iterator

import pytest
from tallybook.application import LedgerUnavailable, Metering
from tallybook.application.read_models.generations import MAX_CANDIDATES, MAX_RETIRED

from .stores import NOW, Store

ALL_TIME = NOW.replace(year=2000), NOW.replace(year=2100)


@pytest.fixture
def metering(store: Store) -> Iterator[Metering]:
    """Return a ledger with a meter and usage."""
    with store.metering() as opened:
        opened.meters.configure("tokens", customer_key="customer")
        opened.record("tokens", {"customer": "acme", "value": "2"})
        opened.catch_up()
        yield opened


def multiply(metering: Metering, factor: int) -> None:
    """Change the rules of the meter, and compute its total under them."""
    metering.rules.change("tokens", {"multiplier": str(factor)}, reason="why")
    assert metering.total("tokens", "acme", *ALL_TIME).value == 2 * factor


def retired(metering: Metering) -> list[int]:
    """Return the numbers of the retired generations."""
    return [generation.number for generation in metering.generations.list() if generation.state == "retired"]


def test_the_last_retired_generations_stay(metering: Metering) -> None:
    """The oldest ones are dropped, but never the one that was live before."""
    for factor in range(2, MAX_RETIRED + 4):
        multiply(metering, factor)
    stored = retired(metering)
    live = stored[-1] + 1
    assert stored == list(range(live - MAX_RETIRED, live))
    multiply(metering, live - MAX_RETIRED)  # the rules of the oldest one that is left
    assert retired(metering) == [*stored[1:], live]
    multiply(metering, 100)
    assert retired(metering) == [live - MAX_RETIRED, *stored[2:], live]
    assert metering.verify().is_equal


def test_a_generation_that_is_in_use_is_dropped_after_the_next_promotion(
    metering: Metering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules are changed all the same."""

    def drop(_number: int, **_: object) -> None:
        raise LedgerUnavailable("A query uses it.")

    for factor in range(2, MAX_RETIRED + 2):
        multiply(metering, factor)
    with monkeypatch.context() as patched:
        patched.setattr(metering._read_models, "drop", drop)  # pyright: ignore[reportPrivateUsage]
        multiply(metering, 100)
    assert len(retired(metering)) == MAX_RETIRED + 1
    multiply(metering, 101)
    assert len(retired(metering)) == MAX_RETIRED


def test_the_last_candidates_stay(metering: Metering) -> None:
    """Each preview builds one. The oldest is dropped for another one, and its rules can be previewed again."""
    for factor in range(2, MAX_CANDIDATES + 4):
        metering.generations.build_candidate("tokens", {"multiplier": str(factor)})
    stored = [generation.number for generation in metering.generations.list()]
    assert len(stored) == 1 + MAX_CANDIDATES
    assert stored[0] == 1  # the live one
    again = metering.generations.build_candidate("tokens", {"multiplier": "2"})
    assert again.number > max(stored)
    assert metering.total("tokens", "acme", *ALL_TIME).value == 2
