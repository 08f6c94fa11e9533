"""An API client for a server in process. Every response is checked against the OpenAPI document."""

import asyncio
import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import httpx2
from tallybook.application import Metering
from tallybook.application.interfaces.http.app import create_app
from tallybook.application.interfaces.http.observability.access_log import AccessLog
from tallybook.application.interfaces.http.observability.metrics import Metrics, Observer
from tallybook.application.interfaces.http.settings import ServerSettings

from ...notation import moment
from ..openapi_document import shared_document

Json = dict[str, Any]
DAY = 86_400


class _Settings(ServerSettings):
    """Settings with a clock that tests control."""

    injected_clock: Callable[[], datetime]

    @property
    def clock(self) -> Callable[[], datetime]:
        return self.injected_clock


def unix_time(text: str) -> int:
    """Return the seconds since 1970 of a time in the notation."""
    return int(moment(text).timestamp())


class ApiClient:
    """Sends requests with one of the access keys of a server."""

    def __init__(self, runner: asyncio.Runner, client: httpx2.AsyncClient, keys: dict[str, str]) -> None:
        self.runner = runner
        self.client = client
        self.keys = keys
        self.documented = shared_document()

    def author(self, scope: str = "admin") -> str:
        """Return how events name the key with this scope as their author: by the part of it that isn't secret."""
        return "_".join(self.keys[scope].split("_")[:3])

    def send(self, method: str, path: str, scope: str = "admin", *, headers: Json | None = None, **params: Any) -> Any:
        """Return the response to a form request."""
        return self.runner.run(self.request(method, path, scope, headers=headers, **params))

    def send_json(self, path: str, credentials: str, body: object, headers: Json | None = None) -> Json:
        """Return the response to a JSON body."""
        sent = {"Authorization": f"Bearer {credentials}", "Content-Type": "application/json", **(headers or {})}
        response = self.runner.run(self.client.post(path, headers=sent, content=json.dumps(body)))
        assert response.status_code == 200, response.text
        return self.documented.check("POST", path, 200, response.content)

    async def request(
        self, method: str, path: str, scope: str = "admin", *, headers: Json | None = None, **params: Any
    ) -> httpx2.Response:
        """Return the response after checking it against the document."""
        sent = {"Authorization": f"Bearer {self.keys[scope]}", **(headers or {})}
        form = urlencode(flatten(params))
        if method == "POST":
            sent["Content-Type"] = "application/x-www-form-urlencoded"
            response = await self.client.post(path, headers=sent, content=form)
        else:
            response = await self.client.request(method, f"{path}?{form}" if form else path, headers=sent)
        self.documented.check(method, path, response.status_code, response.content)
        return response

    def get(self, path: str, **params: Any) -> Json:
        """Return the response for the read key."""
        return self._json("GET", path, "read", **params)

    def post(self, path: str, *, headers: Json | None = None, **params: Any) -> Json:
        """Return the response for the admin key."""
        return self._json("POST", path, "admin", headers=headers, **params)

    def error(self, method: str, path: str, scope: str = "admin", **params: Any) -> tuple[int, str, str]:
        """Return the status, code and parameter of an error response."""
        response = self.send(method, path, scope, **params)
        error = response.json()["error"]
        return response.status_code, error.get("code", ""), error.get("param", "")

    def list_all(self, path: str, **params: Any) -> list[Json]:
        """Return all items of a list, page by page, as Stripe's SDKs do."""
        items: list[Json] = []
        while True:
            page = self.get(path, **params)
            items += page["data"]
            if not page["has_more"]:
                return items
            params["starting_after"] = items[-1]["id"]

    def meter_path(self, event_name: str) -> str:
        """Return the path of a meter."""
        meters = self.list_all("/v1/billing/meters")
        (meter_id,) = (meter["id"] for meter in meters if meter["event_name"] == event_name)
        return f"/v1/billing/meters/{meter_id}"

    def _json(self, method: str, path: str, scope: str, *, headers: Json | None = None, **params: Any) -> Json:
        response = self.send(method, path, scope, headers=headers, **params)
        assert response.status_code == 200, response.text
        return self.documented.check(method, path, 200, response.content)


@contextmanager
def serve_api(
    url: str, metering: Metering, clock: Callable[[], datetime], access_log: AccessLog | None = None
) -> Generator[ApiClient]:
    """Serve the ledger at `url` in process."""
    keys = {scope: metering.access_keys.create([scope]).key for scope in ("read", "record", "admin")}
    app = create_app(_Settings(ledger=url, injected_clock=clock), Observer(Metrics(is_multiprocess=False), access_log))
    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        try:
            client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://127.0.0.1")
            yield ApiClient(runner, client, keys)
            runner.run(client.aclose())
        finally:
            runner.run(lifespan.__aexit__(None, None, None))


def flatten(params: Json, prefix: str = "") -> list[tuple[str, str]]:
    """Return parameters with brackets, as Stripe's SDKs write them."""
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        full = f"{prefix}[{name}]" if prefix else name
        if isinstance(value, dict):
            pairs += flatten(value, full)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, list):
            pairs += flatten({str(at): item for at, item in enumerate(value)}, full)  # pyright: ignore
        elif value is not None:
            pairs.append((full, str(value).lower() if isinstance(value, bool) else str(value)))
    return pairs
