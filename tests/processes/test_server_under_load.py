"""A server under load is killed or terminated: acknowledged requests are stored once, and retries complete the rest.

Each request has its own customer, so that the ledger shows which requests it holds: with and without identifiers,
of one event and of a hundred. Each test uses two moments; TALLYBOOK_TEST_KILL_MOMENTS sets another number.
"""

import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from subprocess import STDOUT

import pytest
from tallybook.application import Metering

from benchmarks.server.http_requests import METERS, PostRequest, single_requests, stream_requests
from benchmarks.server.load import SendResult, send
from benchmarks.server.server_benchmark import Totals, minutes_around, totals_of
from benchmarks.server.server_process import ServerProcess, create_key

from ..preloaded.program import Program
from ..waiting import wait_until_read

KILL_COUNT = int(os.environ.get("TALLYBOOK_TEST_KILL_MOMENTS", "2"))
CONNECTIONS = 8
TIMEOUT_SECONDS = 60.0
UNAVAILABLE = 503


class PreloadedServer(ServerProcess):
    """A server that starts quickly."""

    def _start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> Program:
        return Program("tallybook", *arguments, environment=environment, stdout=self.log, stderr=STDOUT)


@pytest.mark.parametrize("moment", range(KILL_COUNT))
def test_a_killed_server_keeps_acknowledged_events(url: str, moment: int) -> None:
    """Each acknowledged request is stored once, others completely or not at all; after retries all count once."""
    rng = random.Random(9_000 + moment)
    key = create_key(url)
    with PreloadedServer(url) as server:
        client = server.client(key)
        meters, token, started_at = client.create_meters(), client.open_session(), time.time()
        sent = send_until(server.kill, server.port, mixed_requests(key, token), rng)
    assert sent.rejected == []
    assert sent.unanswered != []
    check_acknowledged(url, sent)
    with PreloadedServer(url) as server:
        resend_until_acknowledged(server.port, sent.unanswered)
        check_replayed(server.port, sent)
        client = server.client(key)
        for post in (*sent.unanswered, *rng.sample(sent.acknowledged, CONNECTIONS)):
            range_of_load = minutes_around(started_at, time.time())
            read = {name: client.total(meters[name], post.customer, *range_of_load) for name in METERS}
            assert read == post.totals
        server.terminate()
        assert server.wait() == 0, server.log_tail()
    assert ledger_totals(url) == (totals_of(all_requests(sent)), sum(post.events for post in all_requests(sent)))


@pytest.mark.parametrize("moment", range(KILL_COUNT))
def test_a_terminated_server_answers_accepted_requests(url: str, moment: int) -> None:
    """The ledger holds exactly the acknowledged requests, the exit status is 0, and a retry completes rejected ones."""
    rng = random.Random(10_000 + moment)
    key = create_key(url)
    with PreloadedServer(url) as server:
        client = server.client(key)
        client.create_meters()
        token = client.open_session()
        sent = send_until(server.terminate, server.port, mixed_requests(key, token), rng)
        assert server.wait() == 0, server.log_tail()
    assert {response.status for response in sent.rejected} <= {UNAVAILABLE}
    assert ledger_totals(url) == (totals_of(sent.acknowledged), sum(post.events for post in sent.acknowledged))
    with PreloadedServer(url) as server:
        resend_until_acknowledged(server.port, [*sent.unanswered, *(response.post for response in sent.rejected)])
    assert ledger_totals(url) == (totals_of(all_requests(sent)), sum(post.events for post in all_requests(sent)))


def test_an_incomplete_request_does_not_block_shutdown(sqlite_url: str) -> None:
    """At shutdown the server waits for accepted requests, but not for a client that stopped in the middle of a body."""
    key = create_key(sqlite_url)
    with PreloadedServer(sqlite_url, TALLYBOOK_DRAIN_TIMEOUT_SECONDS="2") as server:
        server.client(key).create_meters()
        (post,) = itertools.islice(single_requests(key, itertools.repeat("acme")), 1)
        with socket.create_connection(("127.0.0.1", server.port)) as silent:
            silent.sendall(post.raw[:-1])
            wait_until_read(silent)
            server.terminate()
            assert server.wait() == 0, server.log_tail()
    assert ledger_totals(sqlite_url) == (Totals(), 0)


def mixed_requests(key: str, token: str) -> Iterator[PostRequest]:
    """Yield streams and single events, with and without identifiers, in turn, each of another customer."""
    customers = (f"customer-{number:05d}" for number in itertools.count())
    kinds = [
        kind(bearer, customers, with_identifiers=with_identifiers)
        for kind, bearer in ((stream_requests, token), (single_requests, key))
        for with_identifiers in (True, False)
    ]
    while True:
        for posts in kinds:
            yield next(posts)


def send_until(end: Callable[[], None], port: int, posts: Iterator[PostRequest], rng: random.Random) -> SendResult:
    """Send requests until the server ends; `end` stops it at a random moment."""
    is_under_load = threading.Event()
    observed = notify_after(posts, rng.randrange(3 * CONNECTIONS, 120), is_under_load)
    with ThreadPoolExecutor(1) as second:
        sending = second.submit(send, port, observed, CONNECTIONS, TIMEOUT_SECONDS)
        assert is_under_load.wait(TIMEOUT_SECONDS)
        time.sleep(rng.random() * 0.05)  # end at any moment of a request
        end()
        return sending.result()


def notify_after(posts: Iterable[PostRequest], number: int, reached: threading.Event) -> Iterator[PostRequest]:
    """Yield the same requests; set `reached` after a number of them."""
    for index, post in enumerate(posts):
        if index == number:
            reached.set()
        yield post


def check_acknowledged(url: str, sent: SendResult) -> None:
    """Check that each acknowledged request is stored, each unanswered one completely or not at all, and no others."""
    totals, _ = ledger_totals(url)
    for post in sent.acknowledged:
        assert {name: totals[post.customer, name] for name in METERS} == post.totals
    for post in sent.unanswered:
        assert {name: totals[post.customer, name] for name in METERS} in (post.totals, dict.fromkeys(METERS, 0))
    assert {customer for customer, _ in totals} <= {post.customer for post in all_requests(sent)}


def resend_until_acknowledged(port: int, posts: list[PostRequest]) -> None:
    """Send the same requests again until all are acknowledged."""
    sent = send(port, posts, CONNECTIONS, TIMEOUT_SECONDS)
    assert sent.rejected == []
    assert len(sent.acknowledged) == len(posts)


def check_replayed(port: int, sent: SendResult) -> None:
    """Check that a request that was answered before gets exactly the same response again."""
    resent = send(port, sent.acknowledged, CONNECTIONS, TIMEOUT_SECONDS)
    replayed = {response.post.customer: (response.status, response.body) for response in resent.responses}
    assert replayed == {response.post.customer: (response.status, response.body) for response in sent.responses}


def ledger_totals(url: str) -> tuple[Totals, int]:
    """Return the totals of each customer on each meter, and the number of events."""
    now, totals, events = datetime.now(UTC), Totals(), 0
    with Metering.open(url) as metering:
        for event_name in METERS:
            for total in metering.totals(event_name, now - timedelta(days=1), now + timedelta(days=1)):
                totals[str(total.customer), event_name] = int(total.value)
                events += total.count
    return totals, events


def all_requests(sent: SendResult) -> list[PostRequest]:
    """Return every request that was sent."""
    return [*(response.post for response in sent.responses), *sent.unanswered]
