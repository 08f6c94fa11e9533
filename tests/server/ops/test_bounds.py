"""Whatever is too large, too slow or too many gets an error in the usual form, and the server goes on."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.server.ops.connection import Answered, Connection, get, post
from tests.server.serving import Serving, serve

BODY, HEADER = 4_096, 2_048
EVENTS = "/v1/billing/meter_events"


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with narrow bounds."""
    with serve(
        f"sqlite:///{tmp_path_factory.mktemp('bounds')}/ledger.db",
        TALLYBOOK_MOST_BODY_BYTES=str(BODY),
        TALLYBOOK_MOST_BODY_SECONDS="0.5",
        TALLYBOOK_MOST_HEADER_BYTES=str(HEADER),
        TALLYBOOK_MOST_HEADERS="20",
        TALLYBOOK_MOST_HEADER_SECONDS="0.5",
        TALLYBOOK_MOST_CONNECTIONS="20",
        TALLYBOOK_KEEP_ALIVE_SECONDS="1",
    ) as serving:
        yield serving


@pytest.fixture(autouse=True)
def serves_on(serving: Serving) -> Iterator[None]:
    """After each test the server answers as if nothing had been, and has logged no failure."""
    yield
    with Connection(serving) as other:
        assert other.send(get("/livez")).answer().status == 200
    assert "\n".join(str(line["trace"]) for line in serving.log if line.get("level") == "error") == ""


def chunks(size: int, of: int = 1_000) -> str:
    """A body of so many bytes in chunks."""
    whole, rest = divmod(size, of)
    sizes = [of] * whole + ([rest] if rest else [])
    return "".join(f"{one:x}\r\n{'x' * one}\r\n" for one in sizes) + "0\r\n\r\n"


def sent(serving: Serving, *parts: str | bytes) -> Answered:
    """What is answered to these bytes; after that the server closes the connection."""
    with Connection(serving) as connection:
        answer = connection.send(*parts).answer()
        assert answer.headers["connection"] == "close"
        assert connection.is_closed()
    return answer


TOO_LARGE: dict[str, tuple[int, str, Callable[[], tuple[str, ...]]]] = {
    "a body by its length": (
        413,
        "request_too_large",
        lambda: (post(EVENTS, f"Content-Length: {BODY + 1}"), "x" * (BODY + 1)),
    ),
    "a body that would be far too large": (
        413,
        "request_too_large",
        lambda: (post(EVENTS, "Content-Length: 99999999999"),),
    ),
    "a body whose length no number has": (
        413,
        "request_too_large",
        lambda: (post(EVENTS, f"Content-Length: {2**63}"),),
    ),
    "a body that is announced": (
        413,
        "request_too_large",
        lambda: (post(EVENTS, f"Content-Length: {BODY + 1}", "Expect: 100-continue"),),
    ),
    "a body in chunks": (
        413,
        "request_too_large",
        lambda: (post(EVENTS, "Transfer-Encoding: chunked"), chunks(BODY + 1)),
    ),
    "one header": (431, "header_too_large", lambda: (get("/livez", f"A: {'x' * HEADER}"),)),
    "one header, bit by bit": (431, "header_too_large", lambda: ("GET /livez HTTP/1.1\r\nA: ", *["x" * 512] * 5)),
    "a path": (431, "header_too_large", lambda: (get("/" + "x" * HEADER),)),
    "all headers": (431, "header_too_large", lambda: (get("/livez", *(f"A{n}: {'x' * 200}" for n in range(11))),)),
    "the number of headers": (431, "header_too_large", lambda: (get("/livez", *(f"A{n}: x" for n in range(20))),)),
    "what isn't HTTP": (400, "http_invalid", lambda: ("what is this\r\n\r\n",)),
    "a body that would be read as another protocol": (
        400,
        "http_invalid",
        lambda: (post(EVENTS, "Connection: Upgrade", "Upgrade: h2c", "Content-Length: 2"), "{}"),
    ),
}


@pytest.mark.parametrize("what", TOO_LARGE)
def test_too_large(serving: Serving, what: str) -> None:
    """Each gets its status, in the form of errors, with a name to find it by."""
    status, code, parts = TOO_LARGE[what]
    answer = sent(serving, *parts())
    assert (answer.status, answer.error["code"], answer.error["type"]) == (status, code, "invalid_request_error")
    assert answer.headers["request-id"].startswith("req_")


@pytest.mark.parametrize("body", ["x" * BODY, chunks(BODY)], ids=["by length", "in chunks"])
def test_a_body_of_the_most_bytes_is_read(serving: Serving, body: str) -> None:
    """It gets as far as the question who asks."""
    how = f"Content-Length: {BODY}" if body == "x" * BODY else "Transfer-Encoding: chunked"
    with Connection(serving) as connection:
        assert connection.send(post(EVENTS, how), body).answer().status == 401


def test_headers_within_bounds_are_read(serving: Serving) -> None:
    """As many as there may be."""
    with Connection(serving) as connection:
        assert connection.send(get("/livez", *(f"A{n}: {'x' * 50}" for n in range(19)))).answer().status == 200


def test_who_would_rather_speak_another_protocol_goes_on_in_this_one(serving: Serving) -> None:
    """A GET has nothing that would be lost."""
    with Connection(serving) as connection:
        asked = get("/livez", "Connection: Upgrade", "Upgrade: h2c")
        assert [connection.send(asked).answer().status for _ in range(2)] == [200, 200]


def test_a_slow_header(serving: Serving) -> None:
    """It gets 408, also where it comes bit by bit."""
    with Connection(serving) as connection:
        connection.send("GET /livez HT")
        time.sleep(0.3)
        answer = connection.send("TP/1.1\r\n").answer()
        assert (answer.status, answer.error["code"]) == (408, "request_timeout")
        assert answer.headers["stripe-should-retry"] == "true"
        assert connection.is_closed()


def test_the_second_header_is_bounded_too(serving: Serving) -> None:
    """A connection that has asked before gets no more time, and no more room."""
    with Connection(serving) as connection:
        assert connection.send(get("/livez")).answer().status == 200
        assert connection.send("GET /livez HT").answer().status == 408
    with Connection(serving) as connection:
        assert connection.send(get("/livez")).answer().status == 200
        assert connection.send(get("/livez", f"A: {'x' * HEADER}")).answer().status == 431


@pytest.mark.parametrize("said", ["", "\r\n"], ids=["nothing", "an empty line"])
def test_who_says_nothing_is_let_go(serving: Serving, said: str) -> None:
    """Without an answer: nothing was asked."""
    with Connection(serving) as connection:
        assert connection.send(said).is_closed()


def test_an_empty_line_after_an_answer_keeps_nobody(serving: Serving) -> None:
    """The time for a header runs from there."""
    with Connection(serving) as connection:
        connection.send(get("/livez")).answer()
        assert connection.send("\r\n").is_closed()


@pytest.mark.parametrize("how", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_a_slow_body(serving: Serving, how: str) -> None:
    """It gets 408."""
    answer = sent(serving, post(EVENTS, how), "1\r\n")
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")


def test_a_body_that_nobody_reads_ends_the_connection(serving: Serving) -> None:
    """A GET is answered without it."""
    with Connection(serving) as connection:
        assert connection.send(get("/livez", "Content-Length: 10")).answer().status == 200
        assert connection.is_closed()


@pytest.mark.parametrize("endless", ["1;" + "x" * 1_000 + "\r\nx\r\n", "0\r\n" + "A: b\r\n" * 1_000])
def test_endless_framing_is_cut_off(serving: Serving, endless: str) -> None:
    """What chunks carry beside a body is bounded too."""
    with Connection(serving) as connection:
        connection.send(post(EVENTS, "Transfer-Encoding: chunked"))
        with suppress(ConnectionError):
            for _ in range(1_000):
                connection.send(endless)
        assert connection.is_closed()


def test_too_many_connections(serving: Serving) -> None:
    """More than there may be are told to come again; twice as many aren't told anything; then there is room again."""
    with ExitStack() as opened:
        for _ in range(20):
            connection = opened.enter_context(Connection(serving))
            assert connection.send(get("/livez")).answer().status == 200
        answer = sent(serving, get("/v2/billing/meter_events"))
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (
            503,
            "too_many_connections",
            "1",
        )
        for _ in range(20):
            opened.enter_context(Connection(serving))
        with Connection(serving) as one_more:
            assert one_more.is_closed()


def test_a_connection_cut_off_in_the_middle_does_no_harm(serving: Serving) -> None:
    """At any byte of a request, closed or reset."""
    whole = post(EVENTS, "Content-Length: 20") + "event_name=tokens&a=b"
    for length in range(0, len(whole), 3):
        with Connection(serving) as connection:
            connection.send(whole[:length])
            if length % 2:
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def test_a_reader_that_stands_still_is_let_go(serving: Serving) -> None:
    """Who asks on and on and never reads an answer doesn't hold the server's memory for ever."""
    times = 1_000
    with Connection(serving) as connection:
        size = len(connection.send(get("/openapi.json")).answer().body)
        connection.send(get("/openapi.json") * times)
        time.sleep(1)
        read = connection.rest()
    assert read < times * size / 2


def test_refusals_are_logged_and_counted(tmp_path: Path) -> None:
    """What never became a request is seen too."""
    with serve(f"sqlite:///{tmp_path}/ledger.db", TALLYBOOK_MOST_HEADERS="10") as serving:
        sent(serving, get("/livez", *(f"A{n}: x" for n in range(20))))
        (line,) = serving.log
        assert (line["status"], line["path"], line["client"]) == (431, "", "127.0.0.1")
