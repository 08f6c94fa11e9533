"""What browsers may do with the console: checks of requests, and the headers of responses.

Requests under another host name, from pages of other sites, or into frames are rejected. Responses load nothing from
other hosts, and contain no inline scripts or styles.
"""

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_UNSPECIFIED_HOSTS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - these are not bound, but left out
SAFE_METHODS = frozenset({"GET", "HEAD"})
_FRAMES = frozenset({"iframe", "frame", "embed", "object", "fencedframe"})
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Referrer-Policy": "same-origin",  # without a referrer, the Origin of a form would be null
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


NONE = "'none'"
EMBED_POLICY = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'"
"""That of the page of one customer, which has no script."""
_NOT_OF_EMBEDDED = frozenset({"X-Frame-Options", "Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy"})
EMBED_PATHS = frozenset({"/embed", "/embed/why"})


class Site(NamedTuple):
    """The address of the console: the host names that requests may have, and its origin if it is configured."""

    hosts: frozenset[str]
    origin: str | None = None
    embed_origins: tuple[str, ...] = ()
    """The origins whose pages may show the page of one customer."""

    @classmethod
    def of(cls, host: str, console_url: str | None = None, embed_origins: tuple[str, ...] = ()) -> "Site":
        """Return the site of a server on `host`, that browsers reach at `console_url`, or directly if it is None."""
        if console_url is None:
            return cls(LOOPBACK_HOSTS | ({host.lower()} - _UNSPECIFIED_HOSTS), None, embed_origins)
        parts = urlsplit(console_url)
        return cls(frozenset({parts.hostname or ""}), f"{parts.scheme}://{parts.netloc.lower()}", embed_origins)

    @property
    def is_https(self) -> bool:
        """Whether browsers reach the console over TLS, so that cookies must not be sent without it."""
        return (self.origin or "").startswith("https:")

    def headers(self, *, is_embedded: bool) -> Mapping[str, str]:
        """Return the headers of responses; a page that may be embedded is shown in pages of the named origins only."""
        if not is_embedded:
            return HEADERS
        policy = f"{EMBED_POLICY}; frame-ancestors {' '.join(self.embed_origins) or NONE}"
        others = {name: value for name, value in HEADERS.items() if name not in _NOT_OF_EMBEDDED}
        return {**others, "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}

    def rejection(self, method: str, headers: Headers, *, is_embedded: bool = False) -> str | None:
        """Return why a request is rejected; None if it is not."""
        host = headers.get("host", "")
        if _host_name(host) not in self.hosts:
            return (
                "The console is not served under this host name. If this is its address, set TALLYBOOK_CONSOLE_URL to "
                "it, such as https://usage.example.com."
            )
        if headers.get("sec-fetch-dest") in _FRAMES and not (is_embedded and self.embed_origins):
            return "The console is not shown inside of other pages. Open it in a window of its own."
        fetch_site = headers.get("sec-fetch-site")
        if method in SAFE_METHODS:
            is_foreign = fetch_site in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate"
        elif fetch_site is not None:
            is_foreign = fetch_site not in ("same-origin", "none")
        else:  # an older browser, or plain HTTP on another host than this one
            is_foreign = headers.get("origin", "") != (self.origin or f"http://{host.lower()}")
        return "The request came from a page of another site. Use the forms of the console." if is_foreign else None


class SecurityMiddleware:
    """Rejects requests that the site doesn't accept with 403, and adds the headers to all responses."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        is_embedded = path in EMBED_PATHS

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._site.headers(is_embedded=is_embedded))
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        rejection = self._site.rejection(scope["method"], Headers(scope=scope), is_embedded=is_embedded)
        app = self._app if rejection is None else PlainTextResponse(f"{rejection}\n", 403)
        await app(scope, receive, send_with_headers)


def _host_name(host: str) -> str:
    """Return the name of a Host header, without the port and the brackets of an IPv6 address."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
