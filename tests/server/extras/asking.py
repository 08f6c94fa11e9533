"""Asking a server in process: what it answers is held against its document, whatever it is."""

import asyncio
import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import httpx
from tallybook.application import Metering
from tallybook.application.server.app import application
from tallybook.application.server.process.settings import ServerSettings
from tallybook.application.server.watching.measures import Measures
from tallybook.application.server.watching.observing import Observer

from ...notation import moment
from ..documented import Documented

Json = dict[str, Any]
DAY = 86_400


class _Settings(ServerSettings):
    """Settings with a clock that can be put."""

    told_by: Callable[[], datetime]

    @property
    def clock(self) -> Callable[[], datetime]:
        return self.told_by


def unix(text: str) -> int:
    """The seconds of a moment of the notation."""
    return int(moment(text).timestamp())


class Asking:
    """Asks a server, with one of its keys."""

    def __init__(self, runner: asyncio.Runner, client: httpx.AsyncClient, keys: dict[str, str]) -> None:
        self.runner = runner
        self.client = client
        self.keys = keys
        self.documented = Documented()

    def send(self, method: str, path: str, scope: str = "admin", *, headers: Json | None = None, **given: Any) -> Any:
        """The answer, whatever it is."""
        return self.runner.run(self.asked(method, path, scope, headers=headers, **given))

    def send_json(self, path: str, credentials: str, body: object, headers: Json | None = None) -> Json:
        """What is answered to a JSON body."""
        sent = {"Authorization": f"Bearer {credentials}", "Content-Type": "application/json", **(headers or {})}
        response = self.runner.run(self.client.post(path, headers=sent, content=json.dumps(body)))
        assert response.status_code == 200, response.text
        return self.documented.check("POST", path, 200, response.content)

    async def asked(
        self, method: str, path: str, scope: str = "admin", *, headers: Json | None = None, **given: Any
    ) -> httpx.Response:
        """The answer, which is as the document says."""
        sent = {"Authorization": f"Bearer {self.keys[scope]}", **(headers or {})}
        form = urlencode(_flat(given))
        if method == "POST":
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            response = await self.client.post(path, headers=sent, content=form)
        else:
            response = await self.client.request(method, f"{path}?{form}" if form else path, headers=sent)
        self.documented.check(method, path, response.status_code, response.content)
        return response

    def get(self, path: str, **given: Any) -> Json:
        """What a reader is answered."""
        return self._done("GET", path, "read", **given)

    def post(self, path: str, *, headers: Json | None = None, **given: Any) -> Json:
        """What is answered to who changes something."""
        return self._done("POST", path, "admin", headers=headers, **given)

    def refused(self, method: str, path: str, scope: str = "admin", **given: Any) -> tuple[int, str, str]:
        """The status, code and parameter of a refusal."""
        response = self.send(method, path, scope, **given)
        error = response.json()["error"]
        return response.status_code, error.get("code", ""), error.get("param", "")

    def pages(self, path: str, **given: Any) -> list[Json]:
        """All items of a list, page by page, as Stripe's SDKs ask for them."""
        found: list[Json] = []
        while True:
            page = self.get(path, **given)
            found += page["data"]
            if not page["has_more"]:
                return found
            given["starting_after"] = found[-1]["id"]

    def meter(self, event_name: str) -> str:
        """The path of a meter."""
        meters = self.pages("/v1/billing/meters")
        (found,) = (meter["id"] for meter in meters if meter["event_name"] == event_name)
        return f"/v1/billing/meters/{found}"

    def _done(self, method: str, path: str, scope: str, *, headers: Json | None = None, **given: Any) -> Json:
        response = self.send(method, path, scope, headers=headers, **given)
        assert response.status_code == 200, response.text
        return self.documented.check(method, path, 200, response.content)


@contextmanager
def served(url: str, metering: Metering, clock: Callable[[], datetime]) -> Generator[Asking]:
    """A server of the ledger at `url`, asked in process."""
    keys = {scope: metering.create_access_key([scope]).key for scope in ("read", "record", "admin")}
    app = application(_Settings(ledger=url, told_by=clock), Observer(Measures(are_shared=False)))
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        try:
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1")
            yield Asking(runner, client, keys)
            runner.run(client.aclose())
        finally:
            runner.run(lifespan.__aexit__(None, None, None))


def _flat(given: Json, inside: str = "") -> list[tuple[str, str]]:
    """Parameters as Stripe's SDKs write them, with brackets."""
    pairs: list[tuple[str, str]] = []
    for name, value in given.items():
        full = f"{inside}[{name}]" if inside else name
        if isinstance(value, dict):
            pairs += _flat(value, full)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, list):
            pairs += _flat({str(at): one for at, one in enumerate(value)}, full)  # pyright: ignore
        elif value is not None:
            pairs.append((full, str(value).lower() if isinstance(value, bool) else str(value)))
    return pairs
