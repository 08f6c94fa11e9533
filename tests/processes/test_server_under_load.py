"""A server under load that is killed or told to end: what it acknowledged is there once, and the rest settles on retry.

Each request reports for a customer of its own, so that the ledger tells which requests it holds: with identifiers and
without, one event and a hundred. Three moments a test; TALLYBOOK_KILL_MOMENTS sets another number.
"""

import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from tallybook.application import Metering

from benchmarks.server.load import Sent, send
from benchmarks.server.posts import METERS, Post, singles, streams
from benchmarks.server.served import Served, created_key
from benchmarks.server.serving import Figures, figures_of, minutes_around

MOMENTS = int(os.environ.get("TALLYBOOK_KILL_MOMENTS", "3"))
CONNECTIONS = 8
PATIENCE_SECONDS = 60.0
UNAVAILABLE = 503


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_killed_server_keeps_what_it_acknowledged(url: str, moment: int) -> None:
    """Each acknowledged request is there once, each other one wholly or not at all; sent again, all count once."""
    rng = random.Random(9_000 + moment)
    key = created_key(url)
    with Served(url) as server:
        client = server.client(key)
        meters, token, began = client.create_meters(), client.open_session(), time.time()
        sent = sent_until(server.kill, server.port, mixed(key, token), rng)
    assert sent.refused == []
    assert sent.unanswered != []
    hold_acknowledged(url, sent)
    with Served(url) as server:
        settle(server.port, sent.unanswered)
        hold_replayed(server.port, sent)
        client = server.client(key)
        for post in (*sent.unanswered, *rng.sample(sent.acknowledged, CONNECTIONS)):
            range_of_load = minutes_around(began, time.time())
            read = {name: client.figure(meters[name], post.customer, *range_of_load) for name in METERS}
            assert read == post.figures
        server.terminate()
        assert server.wait() == 0, server.said()
    assert held(url) == (figures_of(all_of(sent)), sum(post.events for post in all_of(sent)))


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_a_server_that_is_told_to_end_answers_what_it_accepted(url: str, moment: int) -> None:
    """The ledger holds exactly what was acknowledged, the exit status is 0, and what was turned away settles later."""
    rng = random.Random(10_000 + moment)
    key = created_key(url)
    with Served(url) as server:
        client = server.client(key)
        client.create_meters()
        token = client.open_session()
        sent = sent_until(server.terminate, server.port, mixed(key, token), rng)
        assert server.wait() == 0, server.said()
    assert {answer.status for answer in sent.refused} <= {UNAVAILABLE}
    assert held(url) == (figures_of(sent.acknowledged), sum(post.events for post in sent.acknowledged))
    with Served(url) as server:
        settle(server.port, [*sent.unanswered, *(answer.post for answer in sent.refused)])
    assert held(url) == (figures_of(all_of(sent)), sum(post.events for post in all_of(sent)))


def test_a_request_that_never_comes_whole_does_not_keep_the_server(sqlite_url: str) -> None:
    """Told to end, the server waits for what it accepted, and not for a client that stopped in the middle of a body."""
    key = created_key(sqlite_url)
    with Served(sqlite_url) as server:
        server.client(key).create_meters()
        (post,) = itertools.islice(singles(key, itertools.repeat("acme")), 1)
        with socket.create_connection(("127.0.0.1", server.port)) as silent:
            silent.sendall(post.wire[:-1])
            time.sleep(0.2)
            server.terminate()
            assert server.wait() == 0, server.said()
    assert held(sqlite_url) == (Figures(), 0)


def mixed(key: str, token: str) -> Iterator[Post]:
    """Streams and single events, with identifiers and without, in turns, each of another customer."""
    customers = (f"customer-{number:05d}" for number in itertools.count())
    kinds = [
        kind(bearer, customers, named=named)
        for kind, bearer in ((streams, token), (singles, key))
        for named in (True, False)
    ]
    while True:
        for posts in kinds:
            yield next(posts)


def sent_until(end: Callable[[], None], port: int, posts: Iterator[Post], rng: random.Random) -> Sent:
    """Send until the server ends, which `end` brings about at some moment of the load."""
    under_way = threading.Event()
    told = telling(posts, rng.randrange(3 * CONNECTIONS, 120), under_way)
    with ThreadPoolExecutor(1) as second:
        sending = second.submit(send, port, told, CONNECTIONS, PATIENCE_SECONDS)
        assert under_way.wait(PATIENCE_SECONDS)
        time.sleep(rng.random() * 0.05)
        end()
        return sending.result()


def telling(posts: Iterable[Post], number: int, reached: threading.Event) -> Iterator[Post]:
    """The same posts; tells when so many of them have been taken."""
    for taken, post in enumerate(posts):
        if taken == number:
            reached.set()
        yield post


def hold_acknowledged(url: str, sent: Sent) -> None:
    """Check that a ledger holds each acknowledged request, each unanswered one wholly or not at all, and no more."""
    there, _ = held(url)
    for post in sent.acknowledged:
        assert {name: there[post.customer, name] for name in METERS} == post.figures
    for post in sent.unanswered:
        assert {name: there[post.customer, name] for name in METERS} in (post.figures, dict.fromkeys(METERS, 0))
    assert {customer for customer, _ in there} <= {post.customer for post in all_of(sent)}


def settle(port: int, posts: list[Post]) -> None:
    """Send requests again, as they were, until each is acknowledged at once."""
    sent = send(port, posts, CONNECTIONS, PATIENCE_SECONDS)
    assert sent.refused == []
    assert len(sent.acknowledged) == len(posts)


def hold_replayed(port: int, sent: Sent) -> None:
    """Check that what was answered before gets the very same answer again."""
    again = send(port, sent.acknowledged, CONNECTIONS, PATIENCE_SECONDS)
    replayed = {answer.post.customer: (answer.status, answer.body) for answer in again.answers}
    assert replayed == {answer.post.customer: (answer.status, answer.body) for answer in sent.answers}


def held(url: str) -> tuple[Figures, int]:
    """What the ledger holds for each customer on each meter, and of how many events."""
    now, figures, events = datetime.now(UTC), Figures(), 0
    with Metering.open(url) as metering:
        for event_name in METERS:
            for total in metering.totals(event_name, now - timedelta(days=1), now + timedelta(days=1)):
                figures[str(total.customer), event_name] = int(total.value)
                events += total.count
    return figures, events


def all_of(sent: Sent) -> list[Post]:
    """Every request that was sent."""
    return [*(answer.post for answer in sent.answers), *sent.unanswered]
