"""Health endpoints, metrics and the OpenAPI document: /livez, /readyz, /metrics, /openapi.json."""

import asyncio
import logging
import time
from functools import cache
from typing import NamedTuple

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from ....domain.access_key import Scope
from ....domain.errors import TallybookError
from ....domain.timestamps import to_microseconds
from ....projections.models import GenerationState
from ...storage.key_value import KeyValueEntry
from ...topics.offset_log import read_lags
from ..job_settings import ScheduleSettings
from .api_types import encode
from .authentication import parse_credentials, require_livemode
from .catalogue import REGISTRIES
from .errors import UNAVAILABLE, ApiError, to_api_error
from .job_health import JobHealth, check_checkpoints
from .ledgers import LedgerRegistry, ServedLedger
from .observability.job_metrics import render_job_metrics
from .observability.metrics import Metrics
from .observability.topic_metrics import render_topic_metrics
from .openapi import build_document
from .outbox_health import OutboxHealth, OutboxProbe
from .responses import ApiResponse, error_response
from .source_health import ConsumerHealth, check_consumers, check_imports

CACHE_SECONDS, TIMEOUT_SECONDS = 1.0, 5.0
"""How long a result is cached, and how long a probe of the ledger may take."""
_log = logging.getLogger("tallybook.server")


class ProjectionHealth(NamedTuple):
    """The position of the live read models, the head of the ledger, and the difference."""

    position: int
    head: int
    lag: int


class Health(NamedTuple):
    """The state of the ledger. `projection` is None if it is unavailable, the others if the server has none."""

    status: str
    projection: ProjectionHealth | None = None
    outbox: OutboxHealth | None = None
    checkpoint: JobHealth | None = None
    imports: JobHealth | None = None
    consumers: ConsumerHealth | None = None


class PublicHealth(msgspec.Struct, omit_defaults=True):
    """The response to a probe. It needs no key and does not contain the number of events in the ledger."""

    status: str
    lag: int | None = None
    outbox: OutboxHealth | None = None
    checkpoint: JobHealth | None = None
    imports: JobHealth | None = None
    consumers: ConsumerHealth | None = None


class _CachedHealth(NamedTuple):
    """A result and when it was read, by the monotonic clock."""

    health: Health
    at: float


ALIVE_RESPONSE = ApiResponse(200, encode(PublicHealth("alive")))


class ReadinessProbe:
    """Checks that the ledger can be read and written, and reads the lag of an outbox, at most once in `cache_seconds`.

    A server whose outbox can't be read is ready, because it records and answers queries all the same.
    """

    def __init__(
        self,
        ledgers: LedgerRegistry,
        outbox: OutboxProbe | None = None,
        schedule: ScheduleSettings | None = None,
        *,
        cache_seconds: float = CACHE_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._ledgers = ledgers
        self._outbox = outbox
        self._schedule = schedule or ScheduleSettings()
        self._cache_seconds = cache_seconds
        self._timeout_seconds = timeout_seconds
        self._cached: _CachedHealth | None = None
        self._pending_query: asyncio.Task[Health] | None = None

    async def response(self) -> ApiResponse:
        """Return 200 if the ledger can be read and written, else 503."""
        health = await self.check()
        if health.projection is None:
            return ApiResponse(UNAVAILABLE, encode(PublicHealth(health.status)))
        public = PublicHealth(health.status, health.projection.lag, *health[2:])
        return ApiResponse(200, encode(public))

    async def check(self) -> Health:
        """Return the health of the ledger, which may be cached."""
        if self._cached is not None and time.monotonic() - self._cached.at < self._cache_seconds:
            return self._cached.health
        if self._pending_query is None or self._pending_query.done():
            self._pending_query = asyncio.create_task(asyncio.to_thread(self._query))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                health = await asyncio.shield(self._pending_query)
        except Exception:  # any error means that the ledger is unavailable
            _log.exception("The ledger is not ready.")
            health = Health("unavailable")
        if self._outbox is not None and health.projection is not None:
            health = health._replace(outbox=await self._outbox.check())
        self._cached = _CachedHealth(health, time.monotonic())
        return health

    def _query(self) -> Health:
        """Read the position of the projection, and commit a row. Each probe replaces the row of the one before."""
        ledger = self._ledgers.for_mode(livemode=True)
        try:
            live = next(
                generation
                for generation in ledger.metering.generations.list()
                if generation.state == GenerationState.LIVE
            )
            # Only a commit that writes finds a full disk or a read-only database.
            ledger.key_values.apply(upsert=[KeyValueEntry("probe", "readiness", to_microseconds(ledger.now()), b"")])
            jobs = self._check_jobs(ledger)
        except TallybookError as error:
            _log.error("The ledger is not ready: %s: %s", error.code, error.message)
            return Health("unavailable")
        projection = ProjectionHealth(live.position, live.head, live.head - live.position)
        return Health("ready", projection, None, *jobs)

    def _check_jobs(self, ledger: ServedLedger) -> tuple[JobHealth | None, JobHealth | None, ConsumerHealth | None]:
        """Return the health of checkpoints, object imports and consumers; None for those that the server hasn't."""
        schedule = self._schedule
        return (
            check_checkpoints(ledger),
            check_imports(ledger.metering, schedule.imports),
            check_consumers(ledger.metering, schedule.consumers),
        )


@cache
def _openapi_response() -> ApiResponse:
    """Return the OpenAPI document. The first request builds it, which takes 100 ms of CPU."""
    return ApiResponse(200, encode(build_document(REGISTRIES)))


def health_routes(metrics: Metrics) -> list[Route]:
    """Return the routes. Only /metrics needs a key, with the scope `read`."""

    async def livez(_: HttpRequest) -> Response:
        return _to_starlette(ALIVE_RESPONSE)

    async def readyz(request: HttpRequest) -> Response:
        readiness: ReadinessProbe = request.app.state.readiness
        return _to_starlette(await readiness.response())

    async def get_metrics(request: HttpRequest) -> Response:
        ledgers: LedgerRegistry = request.app.state.ledgers
        readiness: ReadinessProbe = request.app.state.readiness
        credentials = parse_credentials(request.headers.get("authorization", ""))
        health = await readiness.check()
        projection = health.projection
        try:
            if projection is None:  # access keys are stored in the ledger
                raise ApiError(UNAVAILABLE, "The ledger is unavailable.", error_type="api_error")
            require_livemode(await asyncio.to_thread(ledgers.authenticator.authenticate, credentials, Scope.READ))
        except TallybookError as error:
            return _to_starlette(error_response(to_api_error(error, {}), is_v2=False))
        except ApiError as api_error:
            return _to_starlette(error_response(api_error, is_v2=False))
        _set_gauges(metrics, projection, health)
        body = await asyncio.to_thread(metrics.render) + await asyncio.to_thread(_stored_metrics, ledgers)
        return _to_starlette(ApiResponse(200, body, media_type=CONTENT_TYPE_LATEST))

    async def get_openapi(_: HttpRequest) -> Response:
        return _to_starlette(await asyncio.to_thread(_openapi_response))

    paths = {"/livez": livez, "/readyz": readyz, "/metrics": get_metrics, "/openapi.json": get_openapi}
    return [Route(path, endpoint, methods=["GET"]) for path, endpoint in paths.items()]


def _set_gauges(metrics: Metrics, projection: ProjectionHealth, health: Health) -> None:
    metrics.set_position(projection.position, projection.head)
    if health.outbox is not None:
        metrics.set_outbox_lag(health.outbox.waiting, health.outbox.rejected, health.outbox.age_seconds)
    if health.checkpoint is not None:
        metrics.set_checkpoint_age(health.checkpoint.age_seconds)
    if health.imports is not None:
        metrics.set_import_age(health.imports.age_seconds)


def _stored_metrics(ledgers: LedgerRegistry) -> bytes:
    """Return the metrics of the jobs and topics of all processes, which are stored in the ledger."""
    ledger = ledgers.for_mode(livemode=True)
    now = time.time()
    return render_job_metrics(ledger.metering.jobs.list(), now) + render_topic_metrics(
        read_lags(ledger.key_values), now
    )


def _to_starlette(response: ApiResponse) -> Response:
    return Response(
        response.body, response.status, {"Cache-Control": "no-store", **response.headers}, response.media_type
    )
