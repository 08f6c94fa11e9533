"""Dispatching: events are made of what happened, and taken to the endpoints, for as long as this process may."""

import asyncio
from contextlib import suppress

import httpx

from ..desk import Desk
from . import error_reports, meter_changes
from .courier import Courier, Tell
from .deliveries import pending
from .endpoints import Endpoint, Endpoints
from .housekeeping import keep_house
from .sending import new_client
from .settings import WebhookSettings

TERM_SECONDS = 300
"""After which another process may dispatch: who has lost a lock with its connection isn't told, and ends so."""
_AT_A_TIME = 1_000
_FOR_EVER = 2**62


class Term:
    """The time in which this process dispatches, and no other does."""

    def __init__(self, desk: Desk, settings: WebhookSettings, tell: Tell, stop: asyncio.Event) -> None:
        self._desk = desk
        self._settings = settings
        self._tell = tell
        self._stop = stop
        self._endpoints = Endpoints(desk.keeper)
        self._meters = meter_changes.MeterFollower(desk)
        self._couriers: dict[str, tuple[Courier, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Dispatch until the term is over, or at once stop."""
        until = asyncio.get_running_loop().time() + TERM_SECONDS
        async with new_client() as client, asyncio.TaskGroup() as group:
            house = group.create_task(keep_house(self._desk, self._settings.keep_house_seconds))
            while not self._stop.is_set() and asyncio.get_running_loop().time() < until:
                await self._look(client, group)
                await self._pause(self._settings.look_every_seconds)
            house.cancel()
            await self._end()

    async def _look(self, client: httpx.AsyncClient, group: asyncio.TaskGroup) -> None:
        endpoints = self._endpoints.rows()
        for endpoint in endpoints:
            if endpoint.status == "deleted":
                await self._clear(endpoint)
            elif endpoint.id not in self._couriers:
                courier = Courier(self._desk, endpoint.id, client, self._settings, self._tell)
                self._couriers[endpoint.id] = courier, group.create_task(courier.run())
        if await self._make_events(endpoints):
            for courier, _ in self._couriers.values():
                courier.look()

    async def _make_events(self, endpoints: list[Endpoint]) -> bool:
        """Make all events that there are to make; give whether there were any."""
        is_any = False
        while made := self._meters.follow(endpoints):
            is_any = True
            await asyncio.sleep(0)  # couriers go on meanwhile
            if made < meter_changes.AT_A_TIME:
                break
        while made := error_reports.report_refused_events(self._desk, endpoints, self._settings):
            is_any = True
            await asyncio.sleep(0)
            if made < error_reports.AT_A_TIME:
                break
        return is_any

    async def _clear(self, endpoint: Endpoint) -> None:
        """Take away what an endpoint that was deleted leaves behind, in steps."""
        courier = self._couriers.pop(endpoint.id, None)
        if courier is not None:
            courier[1].cancel()
        if self._desk.keeper.remove_until(pending(endpoint.id), _FOR_EVER, _AT_A_TIME) < _AT_A_TIME:
            self._endpoints.remove(endpoint)

    async def _end(self) -> None:
        """Let couriers finish what they are about; or leave it to whoever comes next, where it is to be now."""
        for courier, _ in self._couriers.values():
            courier.end()
        tasks = [task for _, task in self._couriers.values()]
        while not self._stop.is_set() and not all(task.done() for task in tasks):
            await self._pause(self._settings.look_every_seconds)
        for task in tasks:
            task.cancel()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
