"""What those ask who look after a server: whether it lives, whether it is ready, what it counts, how it is called."""

import asyncio

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request as Received
from starlette.responses import Response
from starlette.routing import Route

from ....domain.access_key import Scope
from ....domain.errors import TallybookError
from ..answers import Answer, refused
from ..catalogue import ROUTES
from ..credentials import credentials_of
from ..desks import Desks
from ..openapi import document
from ..refusals import UNAVAILABLE, Refusal, refusal_of
from ..wire import encode
from .health import ALIVE, Readiness
from .measures import Measures


def probes(measures: Measures) -> list[Route]:
    """Their routes. Only what is counted needs a key, with the scope `read`."""

    async def livez(_: Received) -> Response:
        return _response(ALIVE)

    async def readyz(request: Received) -> Response:
        readiness: Readiness = request.app.state.readiness
        return _response(await readiness.answer())

    async def metrics(request: Received) -> Response:
        desks: Desks = request.app.state.desks
        readiness: Readiness = request.app.state.readiness
        credentials = credentials_of(request.headers.get("authorization", ""))
        projection = (await readiness.health()).projection
        try:
            if projection is None:  # the key is in the ledger
                raise Refusal(UNAVAILABLE, "The ledger can't be reached now.", kind="api_error")
            await asyncio.to_thread(desks.gate.enter, credentials, Scope.READ)
        except TallybookError as error:
            return _response(refused(refusal_of(error, {}), is_v2=False))
        except Refusal as refusal:
            return _response(refused(refusal, is_v2=False))
        measures.projected(projection.position, projection.head)
        return _response(Answer(200, await asyncio.to_thread(measures.text), media_type=CONTENT_TYPE_LATEST))

    openapi = Answer(200, encode(document(ROUTES)))

    async def described(_: Received) -> Response:
        return _response(openapi)

    paths = {"/livez": livez, "/readyz": readyz, "/metrics": metrics, "/openapi.json": described}
    return [Route(path, endpoint, methods=["GET"]) for path, endpoint in paths.items()]


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, {"Cache-Control": "no-store", **answer.headers}, answer.media_type)
