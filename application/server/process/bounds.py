"""Bounds on connections: how many there are, how much is sent before a body, and how long that may take."""

from asyncio import TimerHandle, Transport
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ..answers import Answer, refused
from ..reception import request_id
from ..refusals import Refusal
from ..watching.observing import Observer
from ..watching.seen import Seen
from .settings import ServerSettings

_LINGER_SECONDS = 1.0
_ABOUT_A_BODY = {b"content-length", b"transfer-encoding"}
_FRAMING = 8
"""How many bytes chunks may take for one byte of a body, which is also why a body may take that much more."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection, within bounds; what is out of them is answered in the form of all errors, and cut off."""

    settings: ServerSettings
    observer: Observer

    def connection_made(  # pyright: ignore[reportIncompatibleMethodOverride] - as in what it overrides
        self, transport: Transport
    ) -> None:
        """Take a connection, unless there are too many: such a one is told so, or cut off where it's far too many."""
        super().connection_made(transport)
        self._bytes = 0
        self._headers_bytes = 0
        self._is_in_body = False
        self._is_in_header = False
        self._is_over = False
        self._answering: RequestResponseCycle | None = None
        self._writing: TimerHandle | None = None
        self._reading: TimerHandle | None = None
        most = self.settings.most_connections
        if len(self.connections) > 2 * most:
            transport.abort()
        elif len(self.connections) > most:
            self.app = self._refusing(_too_many(most))
        self._await_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection, also where the request that is being answered has others behind it."""
        if self._answering is not None:
            self._answering.disconnected = True
        super().connection_lost(exc)
        self._disarm()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self._is_over:
            return
        self._bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self._is_over:
            return
        if self._is_in_header:
            if self._bytes > self.settings.most_header_bytes:
                self._refuse(self._too_large_header())
        elif self._is_in_body and self._bytes > _FRAMING * self.settings.most_body_bytes:
            self.transport.abort()
        if not self._is_in_body and (self._is_in_header or self._is_idle):
            self._await_header()

    def on_message_begin(self) -> None:
        """Begin a header."""
        super().on_message_begin()
        self._is_in_header = True
        self._headers_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header; those after a body too."""
        self._headers_bytes += len(name) + len(value) + 4
        if self._headers_bytes > self.settings.most_header_bytes or len(self.headers) > self.settings.most_headers:
            if self._is_in_body:
                self.transport.abort()
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._disarm()
        self._is_in_header = False
        self._is_in_body = True
        self._bytes = 0
        too_large = self._headers_bytes + len(self.url) > self.settings.most_header_bytes
        if too_large or len(self.headers) > self.settings.most_headers:
            self.app = self._refusing(self._too_large_header())
        elif self._asks_for_upgrade and {name for name, _ in self.headers} & _ABOUT_A_BODY:
            self.app = self._refusing(_not_upgraded())  # what follows such a header isn't read as a body
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End a body."""
        self._is_in_body = False
        self._bytes = 0
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with the next request, unless the body of this one is still coming, which nobody reads."""
        super().on_response_complete()
        if self._is_in_body:
            self.transport.close()

    def pause_writing(self) -> None:
        """Wait for who reads an answer slowly, but not for ever."""
        super().pause_writing()
        self._writing = self.loop.call_later(self.settings.most_body_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def send_400_response(self, msg: str) -> None:
        """Answer what isn't HTTP."""
        self._refuse(Refusal(400, msg, code="http_invalid"))

    def _unsupported_upgrade_warning(self) -> None:
        """Nobody is told that the protocol stays what it is, as HTTP has it."""

    @property
    def _asks_for_upgrade(self) -> bool:
        return self.parser is not None and self.parser.should_upgrade()

    @property
    def _is_idle(self) -> bool:
        is_first = self.cycle is None  # pyright: ignore[reportUnnecessaryComparison] - uvicorn doesn't tell so
        return is_first or self.cycle.response_complete

    def _await_header(self) -> None:
        if self._reading is None:
            self._reading = self.loop.call_later(self.settings.most_header_seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _too_slow(self) -> None:
        self._reading = None
        if self._is_in_header:
            seconds = self.settings.most_header_seconds
            self._refuse(Refusal(408, f"The header didn't come within {seconds:g} seconds.", code="request_timeout"))
        else:  # nobody asked anything
            self.transport.close()

    def _too_large_header(self) -> Refusal:
        most, bytes_ = self.settings.most_headers, self.settings.most_header_bytes
        return Refusal(431, f"The header has more than {most} lines or {bytes_} bytes.", code="header_too_large")

    def _refuse(self, refusal: Refusal) -> None:
        """Answer, and go, once what is on its way has come: it would reset the connection before this is read."""
        self._is_over = True
        self._disarm()
        if self.transport.is_closing():
            return
        if self._is_idle:
            answer, name = self._refused(refusal)
            parts = [STATUS_LINE[answer.status]]
            for key, value in (*self.server_state.default_headers, *_headers(answer, name)):
                parts += [key, b": ", value, b"\r\n"]
            self.transport.write(b"".join([*parts, b"\r\n", answer.body]))
            self.transport.write_eof()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _refusing(self, refusal: Refusal) -> ASGIApp:
        async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
            answer, name = self._refused(refusal)
            await send(
                {"type": "http.response.start", "status": answer.status, "headers": list(_headers(answer, name))}
            )
            await send({"type": "http.response.body", "body": answer.body})

        return refuse

    def _refused(self, refusal: Refusal) -> tuple[Answer, str]:
        """What to answer, and under which name; and who watches is told."""
        url: Any = getattr(self, "url", b"")
        answer, name = refused(refusal, is_v2=url.startswith(b"/v2/")), request_id()
        client = self.client[0] if self.client else ""
        self.observer.answered(Seen(name, "", "", "", client, answer.status, 0.0, 0, len(answer.body)))
        return answer, name


def bounded(settings: ServerSettings, observer: Observer) -> type[BoundedProtocol]:
    """The protocol with its bounds."""
    return type("Bounded", (BoundedProtocol,), {"settings": settings, "observer": observer})


def _too_many(most: int) -> Refusal:
    return Refusal(
        503, f"There are more than {most} connections. Try again later.", kind="api_error", code="too_many_connections",
        headers={"Retry-After": "1"},
    )  # fmt: skip


def _not_upgraded() -> Refusal:
    message = "The body of a request that asks for another protocol can't be read: send it without the header Upgrade."
    return Refusal(400, message, code="http_invalid")


def _headers(answer: Answer, name: str) -> list[tuple[bytes, bytes]]:
    headers = {
        **answer.headers,
        "request-id": name,
        "content-type": answer.media_type,
        "content-length": str(len(answer.body)),
        "connection": "close",
    }
    return [(key.lower().encode(), value.encode()) for key, value in headers.items()]
