"""What has had its time is taken away; nothing else is."""

import asyncio
from contextlib import suppress

import pytest
from tallybook.application import KeptRow
from tallybook.application.server.desk import Desk
from tallybook.application.server.webhooks.housekeeping import KEPT_FOR, keep_house
from tallybook.domain.instants import microseconds

from tests.server.webhooks.desks import refuse

SECOND = 1_000_000


async def for_a_while(desk: Desk) -> None:
    """Keep house once."""
    with suppress(TimeoutError):
        await asyncio.wait_for(keep_house(desk, 60), 1)


@pytest.mark.parametrize("kind", KEPT_FOR)
def test_rows_are_kept_for_their_time(desk: Desk, kind: str) -> None:
    """To the microsecond, and however many there are."""
    edge = microseconds(desk.now() - KEPT_FOR[kind])
    old = [KeptRow(kind, f"old {number}", edge - number, b"") for number in range(1_100)]
    desk.keeper.change(add=[*old, KeptRow(kind, "new", edge + 1, b"")])
    asyncio.run(for_a_while(desk))
    assert [row.key for row in desk.keeper.select(kind, limit=10)] == ["new"]


def test_what_is_to_be_done_still_is_kept_for_ever(desk: Desk) -> None:
    """What nobody was told of, endpoints, and what is to be delivered to them."""
    kinds = ("unreported", "webhook_endpoint", "pending/we_1", "meter_changes_reached")
    desk.keeper.change(add=[KeptRow(kind, "a", 0, b"") for kind in kinds])
    refuse(desk, "b")
    asyncio.run(for_a_while(desk))
    assert all("a" in desk.keeper.get(kind, ["a"]) for kind in kinds)
    assert len(desk.keeper.select("refused_event", limit=10)) == 1
