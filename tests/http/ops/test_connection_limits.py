"""Requests over a limit get an error in the usual form, and the server continues."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.http.ops.connection import Connection, HttpResponse, get_request, post_head
from tests.http.running_server import RunningServer, serve
from tests.waiting import wait_until

BODY, HEADER = 4_096, 2_048
EVENTS = "/v1/billing/meter_events"


@pytest.fixture(scope="module")
def limited_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with small limits."""
    with serve(
        f"sqlite:///{tmp_path_factory.mktemp('bounds')}/ledger.db",
        TALLYBOOK_MAX_BODY_BYTES=str(BODY),
        TALLYBOOK_BODY_TIMEOUT_SECONDS="0.5",
        TALLYBOOK_MAX_HEADER_BYTES=str(HEADER),
        TALLYBOOK_MAX_HEADERS="20",
        TALLYBOOK_HEADER_TIMEOUT_SECONDS="0.5",
        TALLYBOOK_MAX_CONNECTIONS="20",
        TALLYBOOK_KEEP_ALIVE_SECONDS="1",
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def still_serves(limited_server: RunningServer) -> Iterator[None]:
    """After each test the server still responds and has logged no failure."""
    yield
    with Connection(limited_server) as other:
        assert other.send(get_request("/livez")).read_response().status == 200
    assert "\n".join(str(line["trace"]) for line in limited_server.log if line.get("level") == "error") == ""


def chunked_body(size: int, chunk_size: int = 1_000) -> str:
    """Return a chunked body of a size."""
    full_chunks, rest = divmod(size, chunk_size)
    sizes = [chunk_size] * full_chunks + ([rest] if rest else [])
    return "".join(f"{chunk_length:x}\r\n{'x' * chunk_length}\r\n" for chunk_length in sizes) + "0\r\n\r\n"


def send_and_close(limited_server: RunningServer, *parts: str | bytes) -> HttpResponse:
    """Return the response to these bytes, after which the server closes the connection."""
    with Connection(limited_server) as connection:
        response = connection.send(*parts).read_response()
        assert response.headers["connection"] == "close"
        assert connection.is_closed()
    return response


TOO_LARGE_REQUESTS: dict[str, tuple[int, str, Callable[[], tuple[str, ...]]]] = {
    "a body by its length": (
        413,
        "request_too_large",
        lambda: (post_head(EVENTS, f"Content-Length: {BODY + 1}"), "x" * (BODY + 1)),
    ),
    "a body that would be far too large": (
        413,
        "request_too_large",
        lambda: (post_head(EVENTS, "Content-Length: 99999999999"),),
    ),
    "a body whose length no number has": (
        413,
        "request_too_large",
        lambda: (post_head(EVENTS, f"Content-Length: {2**63}"),),
    ),
    "a body that is announced": (
        413,
        "request_too_large",
        lambda: (post_head(EVENTS, f"Content-Length: {BODY + 1}", "Expect: 100-continue"),),
    ),
    "a body in chunks": (
        413,
        "request_too_large",
        lambda: (post_head(EVENTS, "Transfer-Encoding: chunked"), chunked_body(BODY + 1)),
    ),
    "one header": (431, "header_too_large", lambda: (get_request("/livez", f"A: {'x' * HEADER}"),)),
    "one header, bit by bit": (431, "header_too_large", lambda: ("GET /livez HTTP/1.1\r\nA: ", *["x" * 512] * 5)),
    "a path": (431, "header_too_large", lambda: (get_request("/" + "x" * HEADER),)),
    "all headers": (
        431,
        "header_too_large",
        lambda: (get_request("/livez", *(f"A{n}: {'x' * 200}" for n in range(11))),),
    ),
    "the number of headers": (
        431,
        "header_too_large",
        lambda: (get_request("/livez", *(f"A{n}: x" for n in range(20))),),
    ),
    "what isn't HTTP": (400, "http_invalid", lambda: ("what is this\r\n\r\n",)),
    "a body that would be read as another protocol": (
        400,
        "http_invalid",
        lambda: (post_head(EVENTS, "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 2"), "{}"),
    ),
}


@pytest.mark.parametrize("case_name", TOO_LARGE_REQUESTS)
def test_too_large(limited_server: RunningServer, case_name: str) -> None:
    """Each gets its status, in the form of all errors, with a request id."""
    status, code, parts = TOO_LARGE_REQUESTS[case_name]
    response = send_and_close(limited_server, *parts())
    assert (response.status, response.error["code"], response.error["type"]) == (status, code, "invalid_request_error")
    assert response.headers["request-id"].startswith("req_")


@pytest.mark.parametrize("body", ["x" * BODY, chunked_body(BODY)], ids=["by length", "in chunks"])
def test_a_body_of_the_maximum_size_is_accepted(limited_server: RunningServer, body: str) -> None:
    """It gets as far as authentication."""
    how = f"Content-Length: {BODY}" if body == "x" * BODY else "Transfer-Encoding: chunked"
    with Connection(limited_server) as connection:
        assert connection.send(post_head(EVENTS, how), body).read_response().status == 401


def test_headers_within_limits_are_accepted(limited_server: RunningServer) -> None:
    """The maximum number of headers."""
    with Connection(limited_server) as connection:
        assert (
            connection.send(get_request("/livez", *(f"A{n}: {'x' * 50}" for n in range(19)))).read_response().status
            == 200
        )


def test_an_upgrade_request_is_answered_in_http_1(limited_server: RunningServer) -> None:
    """A GET has no body that would be lost."""
    with Connection(limited_server) as connection:
        request = get_request("/livez", "Connection: Upgrade", "Upgrade: h2c")
        assert [connection.send(request).read_response().status for _ in range(2)] == [200, 200]


def test_a_slow_header(limited_server: RunningServer) -> None:
    """It gets 408, also if it arrives byte by byte."""
    with Connection(limited_server) as connection:
        connection.send("GET /livez HT")
        time.sleep(0.3)  # longer than the time limit of a header
        response = connection.send("TP/1.1\r\n").read_response()
        assert (response.status, response.error["code"]) == (408, "request_timeout")
        assert response.headers["stripe-should-retry"] == "true"
        assert connection.is_closed()


def test_the_second_header_is_limited_too(limited_server: RunningServer) -> None:
    """Later requests on a connection have the same limits of time and size."""
    with Connection(limited_server) as connection:
        assert connection.send(get_request("/livez")).read_response().status == 200
        assert connection.send("GET /livez HT").read_response().status == 408
    with Connection(limited_server) as connection:
        assert connection.send(get_request("/livez")).read_response().status == 200
        assert connection.send(get_request("/livez", f"A: {'x' * HEADER}")).read_response().status == 431


@pytest.mark.parametrize("data", ["", "\r\n"], ids=["nothing", "an empty line"])
def test_an_idle_connection_is_closed(limited_server: RunningServer, data: str) -> None:
    """Without a response, because there was no request."""
    with Connection(limited_server) as connection:
        assert connection.send(data).is_closed()


def test_an_empty_line_after_a_response_does_not_keep_a_connection(limited_server: RunningServer) -> None:
    """The header timeout starts there."""
    with Connection(limited_server) as connection:
        connection.send(get_request("/livez")).read_response()
        assert connection.send("\r\n").is_closed()


@pytest.mark.parametrize("how", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_a_slow_body(limited_server: RunningServer, how: str) -> None:
    """It gets 408."""
    response = send_and_close(limited_server, post_head(EVENTS, how), "1\r\n")
    assert (response.status, response.error["code"]) == (408, "request_timeout")


@pytest.mark.parametrize("malformed", ["zz\r\nx", "-1\r\nx", f"{'f' * 17}\r\nx", "1\r\nxx\r\n0\r\n\r\n"])
def test_a_malformed_chunk(limited_server: RunningServer, malformed: str) -> None:
    """It gets 400, also in the packet of the header. The connection is closed."""
    head = post_head(EVENTS, "Transfer-Encoding: chunked")
    for parts in ((head, malformed), (head + malformed,), (head, "1\r\nx\r\n", malformed)):
        response = send_and_close(limited_server, *parts)
        assert (response.status, response.error["code"]) == (400, "http_invalid")


@pytest.mark.parametrize("coding", ["identity", "xchunked", "chunked, gzip"])
def test_an_unknown_transfer_coding(limited_server: RunningServer, coding: str) -> None:
    """Where its body ends isn't known."""
    response = send_and_close(limited_server, post_head(EVENTS, f"Transfer-Encoding: {coding}"))
    assert (response.status, response.error["code"]) == (400, "http_invalid")


def test_an_unread_body_closes_the_connection(limited_server: RunningServer) -> None:
    """A GET is answered without reading its body."""
    with Connection(limited_server) as connection:
        assert connection.send(get_request("/livez", "Content-Length: 10")).read_response().status == 200
        assert connection.is_closed()


def test_a_pipelined_body_may_arrive_after_the_response_before_it(limited_server: RunningServer) -> None:
    """The connection stays open for it, and a timeout of its own starts."""
    with Connection(limited_server) as connection:
        connection.send(get_request("/livez") + post_head(EVENTS, "Content-Length: 10") + "x")
        assert connection.read_response().status == 200
        assert connection.send("x" * 9 + get_request("/livez")).read_response().status == 401
        assert connection.read_response().status == 200


@pytest.mark.parametrize("endless", ["1;" + "x" * 1_000 + "\r\nx\r\n", "0\r\n" + "A: b\r\n" * 1_000])
def test_endless_framing_is_cut_off(limited_server: RunningServer, endless: str) -> None:
    """The overhead of chunked encoding is limited too."""
    with Connection(limited_server) as connection:
        connection.send(post_head(EVENTS, "Transfer-Encoding: chunked"))
        with suppress(ConnectionError):
            for _ in range(1_000):
                connection.send(endless)
        assert connection.is_closed()


def test_an_aborted_connection_is_harmless(limited_server: RunningServer) -> None:
    """At any byte of a request, closed or reset."""
    request = post_head(EVENTS, "Content-Length: 20") + "event_name=tokens&a=b"
    for length in range(0, len(request), 3):
        with Connection(limited_server) as connection:
            connection.send(request[:length])
            if length % 2:
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_a_stalled_reader_is_disconnected(limited_server: RunningServer) -> None:
    """A client that sends requests and reads no responses cannot hold memory indefinitely."""
    times, process = 60, psutil.Process(limited_server.process.pid)
    with Connection(limited_server) as connection:
        size = len(connection.send(get_request("/openapi.json")).read_response().body)
        connection.send(get_request("/openapi.json") * times)
        own_address = connection.socket.getsockname()
        wait_until(lambda: all(other.raddr != own_address for other in process.net_connections("tcp")))
        read = connection.drain()
    assert read < times * size * 2 / 3  # the buffers of the system hold 4 MB, a little more than half


def test_a_connection_with_too_many_pipelined_requests_is_closed(limited_server: RunningServer) -> None:
    """Each would take memory until its turn. A few are answered in order."""
    few = 10
    with Connection(limited_server) as connection:
        connection.send(get_request("/livez") * few)
        assert [connection.read_response().status for _ in range(few)] == [200] * few
    before = psutil.Process(limited_server.process.pid).memory_info().rss
    with Connection(limited_server) as connection, suppress(OSError):
        connection.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 100_000)
        connection.drain()
    assert psutil.Process(limited_server.process.pid).memory_info().rss - before < 50_000_000
    assert limited_server.get("/livez").status_code == 200


def test_rejected_requests_are_logged_and_counted(tmp_path: Path) -> None:
    """Also if they were never parsed."""
    with serve(f"sqlite:///{tmp_path}/ledger.db", TALLYBOOK_MAX_HEADERS="10") as limited_server:
        send_and_close(limited_server, get_request("/livez", *(f"A{n}: x" for n in range(20))))
        limited_server.stop()
        (line,) = limited_server.log
        assert (line["status"], line["path"], line["client"]) == (431, "", "127.0.0.1")
