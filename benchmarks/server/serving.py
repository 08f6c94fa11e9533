"""Serving: a real server under load from a second process, against the limits that Stripe publishes.

What is acknowledged must be in the summaries at once, during the load and after it: a fast wrong answer fails.
"""

import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from ..measure import Mark, Measured, WrongAnswer, agree, p99
from .client import Client
from .load import Sent, send
from .posts import Post, singles, streams
from .served import Served, created_key

STREAM_LIMIT, SINGLE_LIMIT = 10_000, 1_000
MARK = Mark(1)
CUSTOMERS = 51
"""An odd number: events go to the meters in turns, and so each customer uses both."""
WATCH_EVERY_SECONDS = 0.1

Posts = Callable[[str, Iterator[str]], Iterator[Post]]
Figures = Counter[tuple[str, str]]
"""By customer and event name."""


@dataclass(frozen=True)
class Kind:
    """One kind of load."""

    name: str
    posts: Posts
    connections: int
    events_a_second: int


@dataclass(frozen=True)
class Loaded:
    """What a load came to. `took` has the seconds of each request."""

    seconds: float
    events: int
    took: list[float]
    figures: Figures


STREAM = Kind("v2 stream, 100 events a request", streams, 16, STREAM_LIMIT)
SINGLE = Kind("v1 meter events, one a request", singles, 48, SINGLE_LIMIT)


@dataclass(frozen=True)
class UnderLoad:
    """A server that is measured, who asks it meanwhile, and the ids of its meters."""

    server: Served
    client: Client
    meters: dict[str, str]

    def measured(self, kind: Kind, bearer: str, seconds: float) -> Measured:
        """One kind of load. Raises WrongAnswer."""
        began, spent = time.time(), self.server.cpu_seconds()
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as second:
            loading = second.submit(load, kind, self.server.port, bearer, seconds)
            looked = self.watch(kind, bearer, loading)
            loaded = loading.result()
        spent = self.server.cpu_seconds() - spent
        self.check(loaded.figures, began)
        per_second = loaded.events / loaded.seconds
        figures = {
            "events /s": per_second,
            "requests /s": len(loaded.took) / loaded.seconds,
            "request p50 ms": statistics.median(loaded.took) * 1_000,
            "request p99 ms": p99(loaded.took) * 1_000,
            "summary p50 ms": statistics.median(looked) * 1_000,
            "summary p99 ms": p99(looked) * 1_000,
            "processor of the server µs/event": spent / loaded.events * 1e6,
        }
        what = f"{kind.name}, to {kind.events_a_second:,} events/s"
        return Measured(what, per_second / kind.events_a_second, "x", MARK, 1, figures)

    def watch(self, kind: Kind, bearer: str, loading: "Future[Loaded]") -> list[float]:
        """Report under the load, and look at once whether it is there; the seconds that each look took."""
        posts = kind.posts(bearer, itertools.repeat(f"watched-{kind.posts.__name__}"))
        began, acknowledged, looked = time.time(), list[Post](), list[float]()
        while not loading.done() or not looked:
            acknowledged += _acknowledged(send(self.server.port, itertools.islice(posts, 1), 1, 1))
            before = time.perf_counter()
            self.check(figures_of(acknowledged), began)
            looked.append((time.perf_counter() - before) / len(self.meters))
            time.sleep(WATCH_EVERY_SECONDS)
        return looked

    def check(self, figures: Figures, began: float) -> None:
        """Raise WrongAnswer unless the summaries since then are these figures."""
        start, end = minutes_around(began, time.time())
        for (customer, event_name), figure in figures.items():
            summarized = self.client.figure(self.meters[event_name], customer, start, end)
            agree(f"{event_name} of {customer}", summarized, figure)


def measure(url: str, seconds: float) -> Iterator[Measured]:
    """Both kinds of load, so many seconds each, on a server of the ledger at `url`, which is begun there."""
    key = created_key(url)
    with Served(url) as server:
        client = server.client(key)
        under_load = UnderLoad(server, client, client.create_meters())
        yield under_load.measured(STREAM, client.open_session(), seconds)
        yield under_load.measured(SINGLE, key, seconds)
        server.terminate()
        agree("exit status of the server", server.wait(), 0)


def load(kind: Kind, port: int, bearer: str, seconds: float) -> Loaded:
    """Send one kind of load; what was acknowledged. Raises WrongAnswer where anything was not."""
    customers = itertools.cycle([f"{kind.posts.__name__}-{number:02d}" for number in range(CUSTOMERS)])
    sent = send(port, kind.posts(bearer, customers), kind.connections, seconds)
    return Loaded(
        sent.seconds,
        sum(post.events for post in _acknowledged(sent)),
        [answer.seconds for answer in sent.answers],
        figures_of(sent.acknowledged),
    )


def figures_of(posts: list[Post]) -> Figures:
    """What posts add up to, by customer and event name."""
    figures: Figures = Counter()
    for post in posts:
        for event_name, figure in post.figures.items():
            figures[post.customer, event_name] += figure
    return figures


def minutes_around(began: float, ended: float) -> tuple[int, int]:
    """A range from minute to minute that holds all from one moment to the other, in Unix seconds."""
    return int(began) // 60 * 60 - 60, int(ended) // 60 * 60 + 120


def _acknowledged(sent: Sent) -> list[Post]:
    if sent.refused:
        raise WrongAnswer(f"refused with {sent.refused[0].status}: {sent.refused[0].body[:500]!r}")
    if sent.unanswered:
        raise WrongAnswer(f"{len(sent.unanswered)} requests were never answered")
    return sent.acknowledged
