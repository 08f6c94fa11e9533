"""The application that a web server runs: each operation at its path, and an answer to whatever comes."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as Received
from starlette.responses import Response
from starlette.routing import Route

from .answers import Answer, refused
from .catalogue import operations
from .desks import Desks
from .reception import received, request_id
from .refusals import Refusal
from .routes import Operation
from .service import Service
from .settings import ServerSettings

Endpoint = Callable[[Received], Awaitable[Response]]
_log = logging.getLogger("tallybook.server")


def application(settings: ServerSettings) -> Starlette:
    """The application, which opens its ledgers when it starts and lets them go when it ends."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        desks = Desks(settings.ledger, settings.policy, settings.clock)
        app.state.service = service = Service(desks)
        try:
            yield
        finally:
            await service.close()
            desks.close()

    routes = [
        Route(operation.path, _endpoint(operation, settings), methods=[operation.method]) for operation in operations()
    ]
    served = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _unrouted})
    served.router.redirect_slashes = False  # a path that is nearly right is answered like any other that there isn't
    return served


def _endpoint(operation: Operation, settings: ServerSettings) -> Endpoint:
    async def endpoint(request: Received) -> Response:
        service: Service = request.app.state.service
        name = request_id()
        try:
            given = await received(
                request, name, most_bytes=settings.most_body_bytes, most_seconds=settings.most_body_seconds
            )
            answer = await service.answer(operation, given)
        except Refusal as refusal:
            answer = refused(refusal, is_v2=operation.is_v2)
        except ClientDisconnect:
            answer = refused(Refusal(408, "The request was cut off."), is_v2=operation.is_v2)
        return _response(answer, name)

    return endpoint


async def _unrouted(request: Received, error: Exception) -> Response:
    """A path or a method that there is nothing at."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    message = f"Unrecognized request URL ({request.method}: {request.url.path[:200]})."
    refusal = Refusal(status, message, code="url_invalid", headers=headers)
    return _response(refused(refusal, is_v2=request.url.path.startswith("/v2/")), request_id())


def _response(answer: Answer, name: str) -> Response:
    return Response(answer.body, answer.status, {"Request-Id": name, **answer.headers}, answer.media_type)
