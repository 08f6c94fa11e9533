"""The ASGI application: routes each operation and turns every error into a response."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...outbox.outbox import Outbox
from .api_request import ApiRequest
from .authentication import IS_AUTHENTICATED
from .catalogue import all_operations
from .downloads import WrittenDownload
from .errors import INTERNAL_ERROR_MESSAGE, ApiError
from .health import ReadinessProbe, health_routes
from .ledgers import LedgerRegistry
from .memory_budget import MemoryBudget, MemoryReservation
from .observability.access_log import RequestSummary
from .observability.metrics import Observer
from .operations import Operation
from .outbox_health import OutboxProbe
from .request_body import BodyLimits, new_request_id, read_request
from .request_handler import RequestHandler, query_limits
from .responses import ApiResponse, error_response
from .sent_response import SentResponse, count_unread, unread_response_budget, within_budget
from .server_jobs import ServerJobs
from .settings import ServerSettings

Result = TypeVar("Result")
EndpointHandler = Callable[[HttpRequest], Awaitable[Response]]


def create_app(settings: ServerSettings, observer: Observer, extra_routes: Sequence[BaseRoute] = ()) -> Starlette:
    """Return the ASGI application. It opens its ledgers on startup and closes them on shutdown.

    `extra_routes` are served too. Their endpoints find the `request_handler` in the state of the application.
    """
    unread_responses = unread_response_budget()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        ledgers = LedgerRegistry(settings.ledger, settings.policy, settings.clock, settings.checkpoint)
        handler = RequestHandler(ledgers, observer, unread_responses, query_limits(settings.query_timeout_seconds))
        app.state.request_handler = handler
        outbox = _open_outbox(settings, ledgers)
        app.state.readiness = ReadinessProbe(ledgers, outbox, settings.schedule)
        app.state.ledgers = ledgers
        jobs = ServerJobs(ledgers, settings, observer.metrics.observe_delivery)
        try:
            yield
        finally:
            await asyncio.to_thread(jobs.close)
            await handler.close()
            if outbox is not None:
                outbox.close()
            ledgers.close()

    async def not_found(request: HttpRequest, error: Exception) -> Response:
        """Respond to an unknown path or a method that the path does not support."""
        started = perf_counter()
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = error.headers if isinstance(error, HTTPException) else None
        message = f"Unrecognized request URL ({request.method}: {request.url.path[:200]})."
        api_error = ApiError(status, message, code="url_invalid", headers=headers)
        response, request_id = error_response(api_error, is_v2=request.url.path.startswith("/v2/")), new_request_id()
        observer.request_finished(_request_summary(request, ApiRequest(request_id, ""), response, started))
        return _to_starlette(response, request_id)

    async def internal_error(request: HttpRequest, _error: Exception) -> Response:
        """Respond to an unexpected exception. The web server logs it."""
        api_error = ApiError(500, INTERNAL_ERROR_MESSAGE, error_type="api_error")
        response, request_id = error_response(api_error, is_v2=request.url.path.startswith("/v2/")), new_request_id()
        observer.request_finished(_request_summary(request, ApiRequest(request_id, ""), response, perf_counter()))
        return _to_starlette(response, request_id)

    body_limits = BodyLimits(settings.max_body_bytes, settings.body_timeout_seconds)
    exchange = _Exchange(body_limits, body_limits.without_events(), body_limits.budget(), unread_responses, observer)
    by_path: dict[str, dict[str, EndpointHandler]] = {}
    for operation in all_operations():
        by_path.setdefault(operation.path, {})[operation.method] = partial(exchange.respond, operation)
    routes = [Route(path, _dispatch_by_method(endpoints), methods=[*endpoints]) for path, endpoints in by_path.items()]
    starlette_app = Starlette(
        routes=[*routes, *health_routes(observer.metrics), *extra_routes],
        lifespan=lifespan,
        exception_handlers={HTTPException: not_found, Exception: internal_error},
    )
    starlette_app.router.redirect_slashes = False  # a path with an extra slash is as unknown as any other
    return starlette_app


def _open_outbox(settings: ServerSettings, ledgers: LedgerRegistry) -> OutboxProbe | None:
    """Return the outbox of the live ledger, if the settings name one. It connects when it is first used."""
    if settings.outbox is None:
        return None
    metering = ledgers.for_mode(livemode=True).metering
    return OutboxProbe(Outbox(metering, settings.outbox, table=settings.outbox_table))


def _dispatch_by_method(endpoints: Mapping[str, EndpointHandler]) -> EndpointHandler:
    """Return one endpoint for all methods of a path, so that a 405 response lists the allowed methods."""

    async def endpoint(request: HttpRequest) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Reads requests and sends their responses, within the limits of memory and time."""

    body_limits: BodyLimits
    other_body_limits: BodyLimits
    """Those of operations that record no events."""
    bodies: MemoryBudget
    unread_responses: MemoryBudget
    observer: Observer

    async def respond(self, operation: Operation, request: HttpRequest) -> Response:
        """Run an operation with the parameters of a request, and return its response."""
        started = perf_counter()
        handler: RequestHandler = request.app.state.request_handler
        request_id = new_request_id()
        api_request = ApiRequest(request_id, "")
        try:
            with self.bodies.reservation() as body:
                limits = self.body_limits if operation.is_recording or operation.has_file else self.other_body_limits
                api_request = await read_request(
                    request, request_id, limits, body, partial(handler.find_key, operation)
                )
                handling = handler.handle(operation, api_request)
                response = await (handling if operation.is_recording else while_connected(request, handling))
                if isinstance(response, WrittenDownload):
                    headers = {"Request-Id": request_id}
                    download = handler.downloads.response(response, api_request.trace.key_id, headers)
                    setattr(request.state, IS_AUTHENTICATED, True)
                    self.observer.request_finished(_request_summary(request, api_request, response, started, operation))
                    return download
        except ApiError as api_error:
            response = error_response(api_error, is_v2=operation.is_v2)
        except ClientDisconnect:
            api_error = ApiError(408, "The client disconnected before the request was complete.")
            response = error_response(api_error, is_v2=operation.is_v2)
        setattr(request.state, IS_AUTHENTICATED, bool(api_request.trace.key_id))
        unread = MemoryReservation(handler.unread_receipts if operation.is_recording else self.unread_responses)
        if operation.is_query:  # what was changed or recorded is reported in any case
            response = within_budget(response, api_request.trace.key_id, unread, is_v2=operation.is_v2)
        elif operation.is_recording:
            count_unread(response, api_request.trace.key_id, unread)
        self.observer.request_finished(_request_summary(request, api_request, response, started, operation))
        return SentResponse(response, request_id, unread)


async def while_connected(request: HttpRequest, handling: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of `handling`. Cancels it and raises ClientDisconnect if no client waits for it any more."""
    handled, disconnected = asyncio.ensure_future(handling), asyncio.ensure_future(_receive_disconnect(request))
    try:
        await asyncio.wait((handled, disconnected), return_when=asyncio.FIRST_COMPLETED)
        if not handled.done():
            raise ClientDisconnect
        return handled.result()
    finally:
        handled.cancel()
        disconnected.cancel()


async def _receive_disconnect(request: HttpRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _request_summary(
    request: HttpRequest,
    api_request: ApiRequest,
    response: ApiResponse | WrittenDownload,
    started: float,
    operation: Operation | None = None,
) -> RequestSummary:
    return RequestSummary(
        request_id=api_request.request_id,
        operation=operation.name if operation else "",
        method=operation.method if operation else "",
        path=operation.path if operation else "",
        client=request.client.host if request.client else "",
        status=response.status,
        seconds=perf_counter() - started,
        bytes_in=len(api_request.body),
        bytes_out=response.size,
        key_id=api_request.trace.key_id,
        events=api_request.trace.events,
        customer=api_request.trace.customer,
    )


def _to_starlette(response: ApiResponse, request_id: str) -> Response:
    return Response(response.body, response.status, {"Request-Id": request_id, **response.headers}, response.media_type)
