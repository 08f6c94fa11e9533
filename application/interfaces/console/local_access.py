"""Access to the console of this computer: who opens an address with its token, which other users don't know.

Every user of a computer can connect to a port on loopback. The command prints the address with a token that is valid
while it runs. The address that it gives to the browser has another one, which is valid once: other users can see the
arguments of a program that starts, but not what is printed in a terminal of somebody else.
"""

import secrets
from collections.abc import Mapping
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from .query_string import console_url, local_page
from .sessions import LIFETIME

START_PATH = "/start"
DENIED = (
    "This console belongs to the user who started it. Open the address that 'tallybook console' has printed, with its "
    "token, or start a console of your own."
)


class LocalAccess:
    """The tokens of one run of the command."""

    def __init__(self) -> None:
        self._token = secrets.token_urlsafe(32)
        self._one_time_token: str | None = None
        self._cookie_name = f"tallybook_console_{sha256(self._token.encode()).hexdigest()[:8]}"

    @property
    def cookies(self) -> dict[str, str]:
        """The cookie of a browser that has opened an address with a token; of another name in each run."""
        return {self._cookie_name: self._token}

    def address(self, page: str) -> str:
        """Return the path that leads to a page of the console, with the token."""
        return console_url(START_PATH, token=self._token, next=page)

    def one_time_address(self, page: str) -> str:
        """Return the path that leads to a page of the console, with a token that is valid once."""
        self._one_time_token = secrets.token_urlsafe(32)
        return console_url(START_PATH, token=self._one_time_token, next=page)

    def admits(self, cookies: Mapping[str, str]) -> bool:
        """Return whether a request comes from a browser that has opened an address with a token."""
        return _are_equal(cookies.get(self._cookie_name), self._token)

    def route(self) -> Route:
        """Return the route of the addresses with a token."""
        return Route(START_PATH, self._start, methods=["GET"])

    async def _start(self, request: Request) -> Response:
        token, page = request.query_params.get("token"), local_page(request.query_params.get("next", ""))
        if _are_equal(token, self._one_time_token):
            self._one_time_token = None
        elif not _are_equal(token, self._token):
            return RedirectResponse(page, 303)  # which is shown to who has been admitted before
        response = RedirectResponse(page, 303)
        response.set_cookie(
            self._cookie_name, self._token, path=console_url("/"), max_age=int(LIFETIME.total_seconds()),
            httponly=True, samesite="strict",
        )  # fmt: skip
        return response


def _are_equal(given: str | None, expected: str | None) -> bool:
    return given is not None and expected is not None and secrets.compare_digest(given.encode(), expected.encode())
