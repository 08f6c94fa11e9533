"""Connection limits: number of connections, size of headers, and timeouts."""

from asyncio import TimerHandle, Transport
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ..authentication import IS_AUTHENTICATED
from ..errors import ApiError
from ..observability.access_log import RequestSummary
from ..observability.metrics import Observer
from ..request_body import new_request_id
from ..responses import ApiResponse, error_response
from ..settings import ServerSettings
from .connection_table import ConnectionTable
from .half_closed import IS_ENDLESS, HalfClosedCheck

_LINGER_SECONDS = 1.0
_BODY_HEADERS = {b"content-length", b"transfer-encoding"}
_MAX_FRAMING_FACTOR = 8
"""How many bytes of chunked encoding may be sent for one byte of a body."""
_MAX_PIPELINED = 64
"""How many requests of a connection may wait for the response to an earlier one. HTTP clients send none."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection with limits. A violation gets an error response, then the connection is closed."""

    settings: ServerSettings
    observer: Observer
    table: ConnectionTable

    def connection_made(  # pyright: ignore[reportIncompatibleMethodOverride] - as in the overridden method
        self, transport: Transport
    ) -> None:
        """Accept a connection. If it has no place, reject its request; above twice the limit close it."""
        super().connection_made(transport)
        self._received_bytes = 0
        self._header_bytes = 0
        self._is_in_body = False
        self._is_in_header = False
        self._is_rejected = False
        self._is_authenticated = False
        """Whether a request on this connection had a valid access key."""
        self._active_cycle: RequestResponseCycle | None = None
        self._write_timer: TimerHandle | None = None
        self._header_timer: TimerHandle | None = None
        self._half_closed_check: HalfClosedCheck | None = None
        if not self.table.admit(self):
            if len(self.connections) > 2 * self.table.max_connections:
                transport.abort()
            self.app = self._rejecting_app(_too_many_connections(self.table.max_connections))
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release a connection, also if pipelined requests are waiting."""
        if self._active_cycle is not None:
            self._active_cycle.disconnected = True
            self._active_cycle.message_event.set()  # the request may be waiting for the end of the connection
        super().connection_lost(exc)
        self._cancel_header_timer()
        self.resume_writing()
        self.table.remove(self)
        if self._half_closed_check is not None:
            self._half_closed_check.cancel()

    def close(self) -> None:
        """Close the connection, which waits for its client. With a valid key the client may read the last response."""
        if self._is_authenticated:
            self.transport.close()
            self.loop.call_later(self.settings.body_timeout_seconds, self.transport.abort)
        else:
            self.transport.abort()

    def eof_received(self) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride] - as asyncio documents it
        """Return True, to hold the connection open, if the client has sent complete requests that are not answered.

        An endless response is not held open: nearly all clients that send nothing more have closed the connection.
        """
        if self._has_in_state(IS_ENDLESS):
            return False
        requests = [self._active_cycle, *(cycle for cycle, _ in reversed(self.pipeline))]
        complete = [cycle for cycle in requests if cycle and not (cycle.response_complete or cycle.more_body)]
        if not complete:
            return False
        complete[-1].keep_alive = False  # its response is the last one
        if self._half_closed_check is None:
            self._half_closed_check = HalfClosedCheck(self.transport, lambda: self._active_cycle)
        return True

    def data_received(self, data: bytes) -> None:
        """Parse received data and check the limits."""
        if self._is_rejected:
            return
        self._received_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing() or self._is_rejected:
            return
        if self._is_in_header:
            if self._received_bytes > self.settings.max_header_bytes:
                self._reject(self._header_too_large())
        elif self._is_in_body and self._received_bytes > _MAX_FRAMING_FACTOR * self.settings.max_body_bytes:
            self.transport.abort()
        if not self._is_in_body and (self._is_in_header or self._is_idle):
            self._start_header_timer()

    def on_message_begin(self) -> None:
        """Start a header."""
        if self._is_rejected:  # more of the data that was received with it
            return
        super().on_message_begin()
        self._is_in_header = True
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Receive a part of the URL."""
        if not self._is_rejected:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive one header line, or a trailer after the body."""
        if self._is_rejected:
            return
        self._header_bytes += len(name) + len(value) + 4
        if self._header_bytes > self.settings.max_header_bytes or len(self.headers) > self.settings.max_headers:
            if self._is_in_body:
                self.transport.abort()
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, or close a connection on which too many requests wait."""
        if self._is_rejected:
            return
        self._cancel_header_timer()
        self._is_in_header = False
        self._is_in_body = True
        self._received_bytes = 0
        too_large = self._header_bytes + len(self.url) > self.settings.max_header_bytes
        if too_large or len(self.headers) > self.settings.max_headers:
            self.app = self._rejecting_app(self._header_too_large())
        elif self._requests_upgrade and {name for name, _ in self.headers} & _BODY_HEADERS:
            self.app = self._rejecting_app(_upgrade_not_supported())  # the parser would not read the body
        super().on_headers_complete()
        self._update_table()
        if len(self.pipeline) > _MAX_PIPELINED:
            self._is_rejected = True
            self.pipeline.clear()
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        """Receive a part of a body."""
        if not self._is_rejected:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Finish a body."""
        if self._is_rejected:
            return
        self._is_in_body = False
        self._received_bytes = 0
        super().on_message_complete()
        self._update_table()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Continue with the next request. Close the connection if the body of this one is incomplete."""
        is_last = self._active_cycle is self.cycle  # otherwise the incomplete body belongs to a later request
        super().on_response_complete()
        if self._is_in_body and is_last:
            self.transport.close()
        self._update_table()

    def pause_writing(self) -> None:
        """Stop writing to a slow client, and close the connection after a timeout."""
        super().pause_writing()
        self._update_table()
        self._write_timer = self.loop.call_later(self.settings.body_timeout_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Continue writing."""
        super().resume_writing()
        self._update_table()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def send_400_response(self, msg: str) -> None:
        """Respond to data that is not HTTP."""
        self._reject(ApiError(400, msg, code="http_invalid"))

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: HTTP allows a server to ignore an upgrade."""

    @property
    def _requests_upgrade(self) -> bool:
        return self.parser is not None and self.parser.should_upgrade()

    @property
    def _is_idle(self) -> bool:
        is_first = self.cycle is None  # pyright: ignore[reportUnnecessaryComparison] - uvicorn declares it as never None
        return is_first or self.cycle.response_complete

    def _update_table(self) -> None:
        """Note whether the connection waits for its client: to send a request or, without a key, to read a response."""
        cycle = self._active_cycle
        if self._has_in_state(IS_AUTHENTICATED):
            self._is_authenticated = True
        has_request = cycle is not None and not cycle.response_complete and not cycle.more_body
        if has_request and (self._is_authenticated or not self.flow.write_paused):
            self.table.stop_waiting(self)
        else:
            self.table.start_waiting(self, is_authenticated=self._is_authenticated)

    def _has_in_state(self, name: str) -> bool:
        """Return whether the application has set something in the state of the request that is answered."""
        return self._active_cycle is not None and bool(self._active_cycle.scope.get("state", {}).get(name))

    def _start_header_timer(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(self.settings.header_timeout_seconds, self._on_header_timeout)

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _on_header_timeout(self) -> None:
        self._header_timer = None
        if self._is_in_header:
            seconds = self.settings.header_timeout_seconds
            self._reject(
                ApiError(408, f"The header was not received within {seconds:g} seconds.", code="request_timeout")
            )
        else:  # an idle connection
            self.transport.close()

    def _header_too_large(self) -> ApiError:
        max_headers, max_bytes = self.settings.max_headers, self.settings.max_header_bytes
        return ApiError(
            431, f"The header has more than {max_headers} lines or {max_bytes} bytes.", code="header_too_large"
        )

    def _reject(self, api_error: ApiError) -> None:
        """Send an error response unless an earlier one is pending, and close the connection after a delay.

        Closing at once would reset the connection before the client reads the response.
        """
        self._is_rejected = True
        self._cancel_header_timer()
        if self.transport.is_closing():
            return
        if self._is_idle:
            self._write_error_response(api_error)
        elif not self.cycle.more_body:
            self.cycle.keep_alive = False  # the connection is closed after the response to the last valid request
            return
        elif self._active_cycle is self.cycle and not self.cycle.response_started:
            self._write_error_response(api_error)
            self.cycle.disconnected = True  # the rest of its body can't be read, so it sends no response
            self.cycle.message_event.set()
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _write_error_response(self, api_error: ApiError) -> None:
        response, request_id = self._build_error_response(api_error)
        parts = [STATUS_LINE[response.status]]
        for key, value in (*self.server_state.default_headers, *_headers(response, request_id)):
            parts += [key, b": ", value, b"\r\n"]
        self.transport.write(b"".join([*parts, b"\r\n", response.body]))
        self.transport.write_eof()

    def _rejecting_app(self, api_error: ApiError) -> ASGIApp:
        async def reject(_scope: Scope, _receive: Receive, send: Send) -> None:
            response, request_id = self._build_error_response(api_error)
            await send(
                {
                    "type": "http.response.start",
                    "status": response.status,
                    "headers": list(_headers(response, request_id)),
                }
            )
            await send({"type": "http.response.body", "body": response.body})

        return reject

    def _build_error_response(self, api_error: ApiError) -> tuple[ApiResponse, str]:
        """Return an error response and its request id, and report it to the observer."""
        url: Any = getattr(self, "url", b"")
        response, request_id = error_response(api_error, is_v2=url.startswith(b"/v2/")), new_request_id()
        client = self.client[0] if self.client else ""
        self.observer.request_finished(
            RequestSummary(request_id, "", "", "", client, response.status, 0.0, 0, len(response.body))
        )
        return response, request_id


def limited_protocol(settings: ServerSettings, observer: Observer) -> type[LimitedProtocol]:
    """Return the protocol class of all connections of this process, with these settings."""
    attributes = {"settings": settings, "observer": observer, "table": ConnectionTable(settings.max_connections)}
    return type("ConfiguredProtocol", (LimitedProtocol,), attributes)


def _too_many_connections(max_connections: int) -> ApiError:
    return ApiError(
        503, f"There are more than {max_connections} connections. Retry later.", error_type="api_error",
        code="too_many_connections", headers={"Retry-After": "1"},
    )  # fmt: skip


def _upgrade_not_supported() -> ApiError:
    message = "A request with an Upgrade header must not have a body: send it without the header."
    return ApiError(400, message, code="http_invalid")


def _headers(response: ApiResponse, request_id: str) -> list[tuple[bytes, bytes]]:
    headers = {
        **response.headers,
        "request-id": request_id,
        "content-type": response.media_type,
        "content-length": str(len(response.body)),
        "connection": "close",
    }
    return [(key.lower().encode(), value.encode()) for key, value in headers.items()]
