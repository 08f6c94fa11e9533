"""Measures a server under load from a second process, compared with the rate limits that Stripe publishes.

Acknowledged meter events must be in the summaries immediately, during and after the load, or the benchmark fails.
"""

import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from ..measure import Measurement, Target, WrongResult, check_equal, p99
from .client import Client
from .http_requests import PostRequest, single_requests, stream_requests
from .load import SendResult, send
from .server_process import ServerProcess, create_key

STREAM_LIMIT, SINGLE_LIMIT = 10_000, 1_000
TARGET = Target(1)
CUSTOMERS = 51
"""An odd number: events alternate between two meters, so that each customer has usage on both."""
CHECK_INTERVAL_SECONDS = 0.1

RequestSource = Callable[[str, Iterator[str]], Iterator[PostRequest]]
Totals = Counter[tuple[str, str]]
"""By customer and event name."""


@dataclass(frozen=True)
class LoadKind:
    """A kind of load, and the rate limit with which it is compared."""

    name: str
    posts: RequestSource
    connections: int
    target_events_per_second: int


@dataclass(frozen=True)
class LoadResult:
    """The result of a load. `response_seconds` has the duration of each request."""

    seconds: float
    events: int
    response_seconds: list[float]
    totals: Totals


STREAM = LoadKind("v2 stream, 100 events a request", stream_requests, 16, STREAM_LIMIT)
SINGLE = LoadKind("v1 meter events, one a request", single_requests, 48, SINGLE_LIMIT)


@dataclass(frozen=True)
class LoadTest:
    """A server, a client for requests during the load, and the ids of the meters by event name."""

    server: ServerProcess
    client: Client
    meters: dict[str, str]

    def measure(self, kind: LoadKind, bearer: str, seconds: float) -> Measurement:
        """Measure a kind of load. Raises WrongResult if a request fails or a total is wrong."""
        started_at, spent = time.time(), self.server.cpu_seconds()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
            load_future = executor.submit(run_load, kind, self.server.port, bearer, seconds)
            query_seconds = self.watch_freshness(kind, bearer, load_future)
            loaded = load_future.result()
        spent = self.server.cpu_seconds() - spent
        self.check_totals(loaded.totals, started_at)
        per_second = loaded.events / loaded.seconds
        figures = {
            "events /s": per_second,
            "requests /s": len(loaded.response_seconds) / loaded.seconds,
            "request p50 ms": statistics.median(loaded.response_seconds) * 1_000,
            "request p99 ms": p99(loaded.response_seconds) * 1_000,
            "summary p50 ms": statistics.median(query_seconds) * 1_000,
            "summary p99 ms": p99(query_seconds) * 1_000,
            "processor of the server µs/event": spent / loaded.events * 1e6,
        }
        name = f"{kind.name}, to {kind.target_events_per_second:,} events/s"
        return Measurement(name, per_second / kind.target_events_per_second, "x", TARGET, 1, figures)

    def watch_freshness(self, kind: LoadKind, bearer: str, load_future: "Future[LoadResult]") -> list[float]:
        """Send meter events and check that the next query includes them. Return the seconds of each query."""
        posts = kind.posts(bearer, itertools.repeat(f"watched-{kind.posts.__name__}"))
        started_at, acknowledged, query_seconds = time.time(), list[PostRequest](), list[float]()
        while not load_future.done() or not query_seconds:
            acknowledged += _acknowledged(send(self.server.port, itertools.islice(posts, 1), 1, 1))
            before = time.perf_counter()
            self.check_totals(totals_of(acknowledged), started_at)
            query_seconds.append((time.perf_counter() - before) / len(self.meters))
            time.sleep(CHECK_INTERVAL_SECONDS)
        return query_seconds

    def check_totals(self, totals: Totals, started_at: float) -> None:
        """Raise WrongResult unless the summaries since `started_at` match these totals."""
        start, end = minutes_around(started_at, time.time())
        for (customer, event_name), total in totals.items():
            summarized = self.client.total(self.meters[event_name], customer, start, end)
            check_equal(f"{event_name} of {customer}", summarized, total)


def measure(url: str, seconds: float) -> Iterator[Measurement]:
    """Create a ledger at `url`, start a server of it, and yield the measurement of each kind of load."""
    key = create_key(url)
    with ServerProcess(url) as server:
        client = server.client(key)
        under_load = LoadTest(server, client, client.create_meters())
        yield under_load.measure(STREAM, client.open_session(), seconds)
        yield under_load.measure(SINGLE, key, seconds)
        server.terminate()
        check_equal("exit status of the server", server.wait(), 0)


def run_load(kind: LoadKind, port: int, bearer: str, seconds: float) -> LoadResult:
    """Send a kind of load and return the acknowledged totals. Raises WrongResult if a request was not acknowledged."""
    customers = itertools.cycle([f"{kind.posts.__name__}-{number:02d}" for number in range(CUSTOMERS)])
    sent = send(port, kind.posts(bearer, customers), kind.connections, seconds)
    return LoadResult(
        sent.seconds,
        sum(post.events for post in _acknowledged(sent)),
        [response.seconds for response in sent.responses],
        totals_of(sent.acknowledged),
    )


def totals_of(posts: list[PostRequest]) -> Totals:
    """Return the totals of requests by customer and event name."""
    totals: Totals = Counter()
    for post in posts:
        for event_name, total in post.totals.items():
            totals[post.customer, event_name] += total
    return totals


def minutes_around(started_at: float, ended_at: float) -> tuple[int, int]:
    """Return a range of whole minutes in Unix seconds that contains both times."""
    return int(started_at) // 60 * 60 - 60, int(ended_at) // 60 * 60 + 120


def _acknowledged(sent: SendResult) -> list[PostRequest]:
    if sent.rejected:
        raise WrongResult(f"rejected with {sent.rejected[0].status}: {sent.rejected[0].body[:500]!r}")
    if sent.unanswered:
        raise WrongResult(f"{len(sent.unanswered)} requests had no response")
    return sent.acknowledged
