"""The routes of the console, and the application of a console without the API."""

import logging
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from time import perf_counter

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from ....domain.authorship import acting_as
from ....domain.errors import TallybookError
from ....domain.timestamps import to_microseconds
from ...jobs.tasks import TaskView
from ..http.api_request import RequestTrace
from ..http.app import while_connected
from ..http.authentication import IS_AUTHENTICATED
from ..http.downloads import DownloadResponse, UnreadDownloads, WrittenDownload
from ..http.errors import ApiError, to_api_error
from ..http.idempotency import IdempotencyKey, check_key, request_fingerprint
from ..http.ledgers import LedgerRegistry
from ..http.memory_budget import MemoryReservation
from ..http.observability.access_log import RequestSummary, customer_of
from ..http.observability.metrics import Observer
from ..http.request_body import new_request_id
from ..http.request_handler import RequestHandler, query_limits
from ..http.responses import ApiResponse
from ..http.sent_response import SentResponse, unread_response_budget, within_budget
from ..http.settings import ServerSettings
from . import login
from .catalogue import all_views
from .downloads import write_download
from .error_pages import embedded_error_page, error_page
from .forms import read_form
from .local_access import DENIED, LocalAccess
from .progress_streams import ProgressResponse, ProgressStreams
from .query_string import CONSOLE_PATH, Parameters
from .registry import RegisteredView, ViewContext, missing_scope
from .rendering import STATIC_FILES, render, static_file
from .responses import Data, Download, FileDownload, Page, Redirect, ViewResult
from .security import EMBED_PATHS, SecurityMiddleware, Site
from .uploads import UploadedFile, UploadLimit, read_file_form
from .users import ConsoleUser, LocalUser, SessionUsers, Users, embedded_user

HTML = "text/html; charset=utf-8"
_log = logging.getLogger("tallybook.server")


def console_routes(
    settings: ServerSettings, observer: Observer, users: Users, downloads: UnreadDownloads | None = None
) -> list[BaseRoute]:
    """Return the routes of the console, for an application with a request handler."""
    site = Site.of(settings.host, settings.console_url, settings.console_embed_origins)
    console_login, checkpoint_file = login.Login(site, observer), settings.console_checkpoints
    uploads = UploadLimit(settings.max_body_bytes)
    console = _Console(observer, users, console_login, checkpoint_file, downloads or UnreadDownloads(), uploads)
    routes = [
        *(
            Route(view.path, partial(console.respond, view), methods=[view.method])
            for view in all_views()
            if site.embed_origins or not view.is_embedded
        ),
        *(Route(f"/static/{name}", partial(_static, name), methods=["GET"]) for name in STATIC_FILES),
        *(users.routes() if isinstance(users, LocalUser) else console.login.routes()),
        Route("/tasks/{id}", console.stream_progress, methods=["GET"]),
        Route("/{path:path}", console.not_found, methods=["GET", "POST"]),
    ]
    security = Middleware(SecurityMiddleware, site=site)
    return [Route(CONSOLE_PATH, _to_start, methods=["GET"]), Mount(CONSOLE_PATH, routes=routes, middleware=[security])]


def create_local_app(
    access: LocalAccess, access_log_customers: str | None, settings: ServerSettings, observer: Observer
) -> Starlette:
    """Return an application that serves the console alone, to the user of this computer.

    `access_log_customers` is the argument of Metering.open.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        ledgers = LedgerRegistry(
            settings.ledger, settings.policy, settings.clock, access_log_customers=access_log_customers
        )
        limits = query_limits(settings.query_timeout_seconds)
        handler = RequestHandler(ledgers, observer, unread_response_budget(), limits)
        app.state.request_handler = handler
        try:
            yield
        finally:
            await handler.close()
            ledgers.close()

    routes = console_routes(settings, observer, LocalUser(access))
    return Starlette(routes=[Route("/", _to_start, methods=["GET"]), *routes], lifespan=lifespan)


def served_routes(settings: ServerSettings, observer: Observer) -> list[BaseRoute]:
    """Return the routes of a console with the API, whose users log in with an access key."""
    return console_routes(settings, observer, SessionUsers())


class _Console:
    """Runs views and sends their results."""

    def __init__(
        self,
        observer: Observer,
        users: Users,
        console_login: login.Login,
        checkpoint_file: Path | None,
        downloads: UnreadDownloads,
        upload_limit: UploadLimit,
    ) -> None:
        self._observer = observer
        self._users = users
        self.login = console_login
        self._checkpoint_file = checkpoint_file
        self._downloads = downloads
        self._streams = ProgressStreams()
        self._uploads = upload_limit

    async def respond(self, view: RegisteredView, request: Request) -> Response:
        """Run a view with the parameters of a request, and return its response."""
        started, request_id, trace = perf_counter(), new_request_id(), RequestTrace()
        handler: RequestHandler = request.app.state.request_handler
        user: ConsoleUser | None = None
        result: ApiResponse | DownloadResponse
        try:
            user = await self._find_user(view, request, handler)
            result = await self._result(view, user, request, request_id, trace)
        except (ApiError, TallybookError) as error:
            result = self._error(error, user, request)
        except ClientDisconnect:
            result = self._error(ApiError(408, "The browser went away."), user, request)
        except Exception:
            _log.exception("Request %s failed.", request_id)
            result = self._error(ApiError(500, "Something went wrong. The server's log has the reason."), user, request)
        trace.key_id = "" if user is None else user.id
        return self._send(view, request, request_id, trace, result, started)

    async def stream_progress(self, request: Request) -> Response:
        """Send the progress of a task until it ends, as server-sent events."""
        started, request_id, task_id = perf_counter(), new_request_id(), str(request.path_params["id"])
        handler: RequestHandler = request.app.state.request_handler

        def find() -> TaskView | None:
            user = self._users.find(handler.ledgers, request.cookies)
            return None if user is None else user.ledger.metering.tasks.get(task_id)

        user: ConsoleUser | None = None
        result: ApiResponse | ProgressResponse
        try:
            user = await handler.run_short_call(self._users.find, handler.ledgers, request.cookies)
            if user is None:
                raise ApiError(401, "Log in to see the progress.")
            await handler.run_short_call(find)
            result = self._streams.response(user.id, partial(handler.run_short_call, find), handler.shutdown)
        except (ApiError, TallybookError) as error:
            result = self._error(error, user, request)
        trace = RequestTrace("" if user is None else user.id)
        self._report("/tasks/{id}", request, request_id, trace, result, started)
        return result if isinstance(result, ProgressResponse) else Response(result.body, result.status, media_type=HTML)

    async def not_found(self, request: Request) -> Response:
        """Respond to a path that the console doesn't have."""
        handler: RequestHandler = request.app.state.request_handler
        user = await handler.run_short_call(self._users.find, handler.ledgers, request.cookies)
        error = ApiError(404, "The console has no such page.")
        response = self._error(error, user, request)
        return Response(response.body, response.status, media_type=HTML)

    async def _find_user(self, view: RegisteredView, request: Request, handler: RequestHandler) -> ConsoleUser | None:
        if view.is_embedded:
            token = request.query_params.get("token", "")
            return await handler.run_short_call(embedded_user, handler.ledgers, token)
        return await handler.run_short_call(self._users.find, handler.ledgers, request.cookies)

    async def _result(
        self, view: RegisteredView, user: ConsoleUser | None, request: Request, request_id: str, trace: RequestTrace
    ) -> ApiResponse | DownloadResponse:
        if user is None and view.is_embedded:
            raise ApiError(403, "This page has expired. Reload the page that contains it.")
        if user is None and self._users.have_login:
            return login.redirect_to_login(request)
        if user is None:
            raise ApiError(403, DENIED)
        if not user.allows(view.scope):
            raise missing_scope(view.scope)
        is_query = view.method == "GET"
        handler: RequestHandler = request.app.state.request_handler
        with ExitStack() as stack:
            file: UploadedFile | None = None
            if view.takes_file:
                stack.enter_context(self._uploads.reservation(user.id))
                params, file = await read_file_form(request, self._uploads.max_bytes)
            else:
                params = Parameters.parse(request.url.query) if is_query else await read_form(request)
            if file is not None:
                stack.callback(file.contents.close)
            path_parameters = {name: str(value) for name, value in request.path_params.items() if name != "path"}
            context = ViewContext(
                user, handler.ledgers, params, request.url.path, path_parameters, self._checkpoint_file, file, trace
            )
            call = partial(self._run if is_query else self._run_once, view, context, request_id)
            running = handler.run_call(user.id, call, is_query=is_query, is_large=view.is_large)
            result = await (while_connected(request, running) if is_query else running)
        return self._downloads.response(result, user.id) if isinstance(result, WrittenDownload) else result

    def _run(self, view: RegisteredView, context: ViewContext, request_id: str) -> ApiResponse | WrittenDownload:
        """Run a view in the current thread."""
        with acting_as(context.user.author(request_id)):
            result = view.run(context)
            context.trace.customer = _customer_of(context, result)
            if not isinstance(result, Download | FileDownload):
                return self._to_response(result, context)
            self._downloads.check(context.user.id)
            return write_download(result)

    def _run_once(self, view: RegisteredView, context: ViewContext, request_id: str) -> ApiResponse:
        """Run a view that changes something, or return the result of the same form that was sent before."""
        form_key = context.params.get("form_key")
        if not form_key:
            raise ApiError(400, "The form has no key. Open its page again.")
        check_key(form_key)
        ledger = context.user.ledger
        content = repr(context.params) + ("" if context.file is None else context.file.digest())
        fingerprint = request_fingerprint(view.method, context.path, content.encode())
        key = IdempotencyKey(f"console/{context.user.id}", form_key, fingerprint)

        def work(_interrupted: str | None) -> ApiResponse:
            try:
                with acting_as(context.user.author(request_id)):
                    result = view.run(context)
                return self._to_response(result, context)
            except TallybookError as error:
                raise to_api_error(error, {}) from error

        return ledger.idempotency.run_once(key, request_id, to_microseconds(ledger.now()), work)

    def _to_response(self, result: ViewResult, context: ViewContext) -> ApiResponse:
        match result:
            case Redirect(location):
                return ApiResponse(303, location.encode(), media_type=HTML)
            case Data(value):
                return ApiResponse(200, msgspec.json.encode(value))
            case Page(template, values, status):
                body = render(template, values, context, has_login=self._users.have_login)
                return ApiResponse(status, body, media_type=HTML)
            case Download() | FileDownload():
                raise TypeError("a download is written to a file")

    def _error(self, error: ApiError | TallybookError, user: ConsoleUser | None, request: Request) -> ApiResponse:
        api_error = error if isinstance(error, ApiError) else to_api_error(error, {})
        if api_error.is_server_error:
            _log.error("The console could not answer: %s", error)
        handler: RequestHandler = request.app.state.request_handler
        is_embedded = request.url.path.removeprefix(CONSOLE_PATH) in EMBED_PATHS
        page = embedded_error_page(api_error) if is_embedded else error_page(api_error)
        context = None if user is None else ViewContext(user, handler.ledgers, Parameters(), request.url.path)
        body = render(page.template, page.values, context, has_login=self._users.have_login)
        return ApiResponse(page.status, body, api_error.headers, HTML)

    def _send(
        self, view: RegisteredView, request: Request, request_id: str, trace: RequestTrace,
        result: ApiResponse | DownloadResponse, started: float,
    ) -> Response:  # fmt: skip
        self._report(view.path, request, request_id, trace, result, started)
        if isinstance(result, DownloadResponse):
            return result
        if result.status == 303:  # noqa: PLR2004
            return RedirectResponse(result.body.decode(), 303)
        handler: RequestHandler = request.app.state.request_handler
        unread = MemoryReservation(handler.unread_responses)
        return SentResponse(within_budget(result, trace.key_id, unread, is_v2=False), request_id, unread)

    def _report(
        self, path: str, request: Request, request_id: str, trace: RequestTrace,
        result: ApiResponse | DownloadResponse | ProgressResponse, started: float,
    ) -> None:  # fmt: skip
        """Report a request to the observer; one with a stream when that starts."""
        setattr(request.state, IS_AUTHENTICATED, bool(trace.key_id))
        status = result.status if isinstance(result, ApiResponse) else result.status_code
        client = request.client.host if request.client else ""
        self._observer.request_finished(
            RequestSummary(
                request_id, f"console{path}", request.method, f"{CONSOLE_PATH}{path}", client, status,
                perf_counter() - started, 0, _size(result), trace.key_id, customer=trace.customer,
            )
        )  # fmt: skip


def _customer_of(context: ViewContext, result: ViewResult) -> str:
    """Return the customer that a page is about: of its user, of its parameters, or of the object that it shows."""
    named = context.user.customer or context.params.exact("customer")
    shown = result.values.values() if isinstance(result, Page) else ()
    return named or next(filter(None, (customer_of(None, value) for value in shown)), "")


def _size(result: ApiResponse | DownloadResponse | ProgressResponse) -> int:
    match result:
        case ApiResponse():
            return len(result.body)
        case DownloadResponse():
            return result.size
        case _:
            return 0


async def _to_start(_request: Request) -> Response:
    return RedirectResponse(f"{CONSOLE_PATH}/", 303)


async def _static(name: str, _request: Request) -> Response:
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(static_file(name), headers=headers, media_type=STATIC_FILES[name])
