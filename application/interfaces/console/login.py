"""Login and logout: an access key is exchanged for a session."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ..http.errors import ApiError
from ..http.request_handler import RequestHandler
from ..http.responses import ApiResponse
from .forms import read_form
from .login_delays import LoginDelays
from .query_string import CONSOLE_PATH, build_url
from .rendering import render
from .security import Site
from .sessions import LIFETIME
from .users import COOKIE, sessions_of

LOGIN_PATH = f"{CONSOLE_PATH}/login"
_HTML = "text/html; charset=utf-8"


def redirect_to_login(request: Request) -> ApiResponse:
    """Return a redirect to the login page, and from there back to the page of a GET request."""
    target = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
    next_page = target if request.method == "GET" else None
    return ApiResponse(303, build_url(LOGIN_PATH, {"next": next_page}).encode())


class Login:
    """The pages to log in and out."""

    def __init__(self, site: Site, delays: LoginDelays | None = None) -> None:
        self._site = site
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
        return _login_page(request.query_params.get("next", ""))

    async def log_in(self, request: Request) -> Response:
        """Create a session for an access key, and go to the page that was wanted."""
        handler: RequestHandler = request.app.state.request_handler
        client = request.client.host if request.client else ""
        next_page = ""
        try:
            form = await read_form(request)
            next_page = form.get("next")
            await self._delays.wait(client)
            token = await handler.run_short_call(sessions_of(handler.ledgers).create, form.get("key"))
        except ApiError as error:
            if error.status in (401, 403):
                self._delays.failed(client)
            return _login_page(next_page, error)
        self._delays.succeeded(client)
        response = RedirectResponse(_local_page(next_page), 303)
        response.set_cookie(
            COOKIE, token, path=CONSOLE_PATH, max_age=int(LIFETIME.total_seconds()), httponly=True, samesite="strict",
            secure=self._site.is_https,
        )  # fmt: skip
        return response

    async def log_out(self, request: Request) -> Response:
        """End the session."""
        handler: RequestHandler = request.app.state.request_handler
        if token := request.cookies.get(COOKIE):
            await handler.run_short_call(sessions_of(handler.ledgers).end, token)
        response = RedirectResponse(LOGIN_PATH, 303)
        response.delete_cookie(COOKIE, path=CONSOLE_PATH, httponly=True, samesite="strict", secure=self._site.is_https)
        return response


def _login_page(next_page: str, error: ApiError | None = None) -> Response:
    values = {"next": next_page, "message": None if error is None else error.error.message, "selection": None}
    status = 200 if error is None else error.status
    return Response(render("login.html", values, None, has_login=False), status, media_type=_HTML)


def _local_page(page: str) -> str:
    """Return the page to go to, if it is one of the console; otherwise the start."""
    is_local = page.startswith(f"{CONSOLE_PATH}/") and not any(character in page for character in "\\\r\n")
    return page if is_local else f"{CONSOLE_PATH}/"
