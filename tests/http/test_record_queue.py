"""The queue of requests to record: limits, and turns of the callers."""

import threading
from typing import NamedTuple

import pytest
from tallybook.application.interfaces.http.record_queue import QueueFull, RecordQueue


class Waiting(NamedTuple):
    """A request of a caller with a number of events."""

    caller: str
    event_count: int = 1


def test_a_batch_takes_a_request_of_each_caller_in_turn() -> None:
    """The one request of a caller is in the next batch, however many requests of another caller came first."""
    queue: RecordQueue[Waiting] = RecordQueue(max_batch_events=4)
    for _ in range(10):
        queue.put(Waiting("busy"))
    queue.put(Waiting("other"))
    assert [request.caller for request in queue.take_batch()] == ["busy", "other", "busy", "busy"]
    assert [request.caller for request in queue.take_batch()] == ["busy"] * 4


def test_the_requests_of_one_caller_stay_in_order() -> None:
    """Also if a batch ends between them."""
    queue: RecordQueue[Waiting] = RecordQueue(max_batch_events=3)
    for size in (1, 2, 3, 4):
        queue.put(Waiting("caller", size))
        queue.put(Waiting("other", size))
    queue.close()
    batches = list(iter(queue.take_batch, []))
    sizes = [request.event_count for batch in batches for request in batch if request.caller == "caller"]
    assert sizes == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("waiting", "added", "is_admitted"),
    [
        ([Waiting("a", 5)], Waiting("a", 5), True),
        ([Waiting("a", 5)], Waiting("a", 6), False),  # more than 10 of one caller
        ([Waiting("a", 10), Waiting("b", 10), Waiting("c", 9)], Waiting("c", 1), True),
        ([Waiting("a", 10), Waiting("b", 10), Waiting("c", 9)], Waiting("c", 2), False),  # more than 30 in all
        ([Waiting("a", 10), Waiting("b", 10), Waiting("c", 10)], Waiting("d", 1), True),  # the first of its caller
        ([], Waiting("a", 100), True),
    ],
)
def test_limits(waiting: list[Waiting], added: Waiting, is_admitted: bool) -> None:
    """A caller may have 10 events waiting, all callers 30, and each caller one request."""
    queue: RecordQueue[Waiting] = RecordQueue(max_events=30, max_events_per_caller=10)
    for request in waiting:
        queue.put(request)
    if is_admitted:
        queue.put(added)
    else:
        with pytest.raises(QueueFull):
            queue.put(added)


def test_taken_requests_make_room() -> None:
    """The limits apply to waiting requests."""
    queue: RecordQueue[Waiting] = RecordQueue(max_events=10, max_events_per_caller=10, max_batch_events=5)
    for _ in range(100):
        queue.put(Waiting("a", 5))
        queue.put(Waiting("a", 5))
        assert queue.take_batch() == [Waiting("a", 5)]
        assert queue.take_batch() == [Waiting("a", 5)]


def test_a_closed_queue_is_emptied() -> None:
    """A thread that waits for a request gets an empty batch."""
    queue: RecordQueue[Waiting] = RecordQueue()
    batches: list[int] = []
    thread = threading.Thread(target=lambda: batches.extend(map(len, iter(queue.take_batch, []))))
    queue.put(Waiting("a"))
    thread.start()
    queue.close()
    thread.join(10)
    assert not thread.is_alive()
    assert batches == [1]
