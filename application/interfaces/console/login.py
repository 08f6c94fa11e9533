"""Login and logout: an access key is exchanged for a session."""

from time import perf_counter

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ...access_keys.views import AccessKeyView
from ..http.authentication import IS_AUTHENTICATED
from ..http.errors import ApiError
from ..http.observability.access_log import RequestSummary
from ..http.observability.metrics import Observer
from ..http.request_body import new_request_id
from ..http.request_handler import RequestHandler
from ..http.responses import ApiResponse
from .forms import read_form
from .login_delays import LoginDelays
from .query_string import CONSOLE_PATH, build_url, local_page
from .rendering import render
from .security import Site
from .sessions import LIFETIME, NewSession
from .users import COOKIE, sessions_of

LOGIN_PATH, LOGOUT_PATH = f"{CONSOLE_PATH}/login", f"{CONSOLE_PATH}/logout"
_HTML = "text/html; charset=utf-8"


def redirect_to_login(request: Request) -> ApiResponse:
    """Return a redirect to the login page, and from there back to the page of a GET request."""
    target = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
    next_page = target if request.method == "GET" else None
    return ApiResponse(303, build_url(LOGIN_PATH, {"next": next_page}).encode())


class Login:
    """The pages to log in and out."""

    def __init__(self, site: Site, observer: Observer, delays: LoginDelays | None = None) -> None:
        self._site = site
        self._observer = observer
        self._delays = delays or LoginDelays()

    def routes(self) -> list[Route]:
        """Return the routes below the path of the console."""
        return [
            Route("/login", self.form, methods=["GET"]),
            Route("/login", self.log_in, methods=["POST"]),
            Route("/logout", self.log_out, methods=["POST"]),
        ]

    async def form(self, request: Request) -> Response:
        """Show the login form."""
        started = perf_counter()
        return self._reported(LOGIN_PATH, request, _login_page(request.query_params.get("next", "")), started)

    async def log_in(self, request: Request) -> Response:
        """Create a session for an access key, and go to the page that was wanted."""
        started, next_page = perf_counter(), ""
        handler: RequestHandler = request.app.state.request_handler
        try:
            form = await read_form(request)
            next_page = form.get("next")
            session = await self._new_session(handler, _client(request), form.get("key"))
        except ApiError as error:
            return self._reported(LOGIN_PATH, request, _login_page(next_page, error), started)
        response = RedirectResponse(local_page(next_page), 303)
        response.set_cookie(
            COOKIE, session.token, path=CONSOLE_PATH, max_age=int(LIFETIME.total_seconds()), httponly=True,
            samesite="strict", secure=self._site.is_https,
        )  # fmt: skip
        return self._reported(LOGIN_PATH, request, response, started, session.access_key)

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        started, access_key = perf_counter(), None
        handler: RequestHandler = request.app.state.request_handler
        if token := request.cookies.get(COOKIE):
            sessions = sessions_of(handler.ledgers)
            access_key = await handler.run_short_call(sessions.authenticate, token)
            await handler.run_short_call(sessions.end, token)
        response = RedirectResponse(LOGIN_PATH, 303)
        response.delete_cookie(COOKIE, path=CONSOLE_PATH, httponly=True, samesite="strict", secure=self._site.is_https)
        return self._reported(LOGOUT_PATH, request, response, started, access_key)

    async def _new_session(self, handler: RequestHandler, client: str, key: str) -> NewSession:
        """Return a new session for an access key. Raises ApiError, after a delay if the key is rejected."""
        try:
            session = await handler.run_short_call(sessions_of(handler.ledgers).create, key)
        except ApiError as error:
            if error.status in (401, 403):
                await self._delays.fail(client)
            raise
        self._delays.succeed(client)
        return session

    def _reported(
        self,
        path: str,
        request: Request,
        response: Response,
        started: float,
        access_key: AccessKeyView | None = None,
    ) -> Response:
        """Report a finished request to the observer, and return its response."""
        setattr(request.state, IS_AUTHENTICATED, access_key is not None)
        self._observer.request_finished(
            RequestSummary(
                new_request_id(), path.removeprefix("/"), request.method, path, _client(request), response.status_code,
                perf_counter() - started, 0, len(response.body), "" if access_key is None else access_key.id,
            )
        )  # fmt: skip
        return response


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


def _login_page(next_page: str, error: ApiError | None = None) -> Response:
    values = {"next": next_page, "message": None if error is None else error.error.message, "selection": None}
    status = 200 if error is None else error.status
    headers = None if error is None else error.headers
    return Response(render("login.html", values, None, has_login=False), status, headers, _HTML)
