"""The application that a web server runs: each operation at its path, and an answer to whatever comes."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from time import perf_counter

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as Received
from starlette.responses import Response
from starlette.routing import Route

from .answers import Answer, refused
from .catalogue import operations
from .desks import Desks
from .process.settings import ServerSettings
from .reception import Room, received, request_id
from .refusals import Refusal
from .routes import Operation
from .service import Request, Service
from .watching.health import Readiness
from .watching.observing import Observer
from .watching.probes import probes
from .watching.seen import Seen
from .webhooks.dispatcher import Webhooks

Endpoint = Callable[[Received], Awaitable[Response]]


def application(settings: ServerSettings, observer: Observer) -> Starlette:
    """The application, which opens its ledgers when it starts and lets them go when it ends."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        desks = Desks(settings.ledger, settings.policy, settings.clock)
        app.state.service = service = Service(desks, observer)
        app.state.readiness = Readiness(desks, settings.ledger)
        app.state.desks = desks
        webhooks = Webhooks(desks, settings.webhooks, observer.measures.delivered)
        try:
            yield
        finally:
            await asyncio.to_thread(webhooks.close)
            await service.close()
            desks.close()

    async def unrouted(request: Received, error: Exception) -> Response:
        """A path or a method that there is nothing at."""
        began = perf_counter()
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = error.headers if isinstance(error, HTTPException) else None
        message = f"Unrecognized request URL ({request.method}: {request.url.path[:200]})."
        refusal = Refusal(status, message, code="url_invalid", headers=headers)
        answer, name = refused(refusal, is_v2=request.url.path.startswith("/v2/")), request_id()
        observer.answered(_seen(request, Request(name, ""), answer, began))
        return _response(answer, name)

    async def failed(request: Received, _error: Exception) -> Response:
        """Something nobody has thought of; the web server logs it."""
        refusal = Refusal(500, "Something went wrong here, which is ours to mend.", kind="api_error")
        answer, name = refused(refusal, is_v2=request.url.path.startswith("/v2/")), request_id()
        observer.answered(_seen(request, Request(name, ""), answer, perf_counter()))
        return _response(answer, name)

    room = Room(settings.most_body_bytes)
    by_path: dict[str, dict[str, Endpoint]] = {}
    for operation in operations():
        by_path.setdefault(operation.path, {})[operation.method] = _endpoint(operation, settings, room, observer)
    routes = [Route(path, _chosen(endpoints), methods=[*endpoints]) for path, endpoints in by_path.items()]
    served = Starlette(
        routes=[*routes, *probes(observer.measures)],
        lifespan=lifespan,
        exception_handlers={HTTPException: unrouted, Exception: failed},
    )
    served.router.redirect_slashes = False  # a path that is nearly right is answered like any other that there isn't
    return served


def _chosen(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    """All that is at one path, so that a method that isn't is told which are."""

    async def endpoint(request: Received) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


def _endpoint(operation: Operation, settings: ServerSettings, room: Room, observer: Observer) -> Endpoint:
    async def endpoint(request: Received) -> Response:
        began = perf_counter()
        service: Service = request.app.state.service
        name = request_id()
        given = Request(name, "")
        try:
            with room.place() as place:
                given = await received(
                    request, name, place, most_bytes=settings.most_body_bytes, most_seconds=settings.most_body_seconds
                )
                answer = await service.answer(operation, given)
        except Refusal as refusal:
            answer = refused(refusal, is_v2=operation.is_v2)
        except ClientDisconnect:
            answer = refused(Refusal(408, "The request was cut off."), is_v2=operation.is_v2)
        observer.answered(_seen(request, given, answer, began, operation))
        return _response(answer, name)

    return endpoint


def _seen(request: Received, given: Request, answer: Answer, began: float, operation: Operation | None = None) -> Seen:
    return Seen(
        request_id=given.request_id,
        operation=operation.name if operation else "",
        method=operation.method if operation else "",
        path=operation.path if operation else "",
        client=request.client.host if request.client else "",
        status=answer.status,
        seconds=perf_counter() - began,
        bytes_in=len(given.body),
        bytes_out=len(answer.body),
        key=given.trace.key,
        events=given.trace.events,
    )


def _response(answer: Answer, name: str) -> Response:
    return Response(answer.body, answer.status, {"Request-Id": name, **answer.headers}, answer.media_type)
