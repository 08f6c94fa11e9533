"""A job that records the messages of a topic as they come."""

from collections.abc import Callable
from datetime import timedelta

from ...domain.errors import Unavailable
from ..jobs.job import Job, JobRun
from .consumer import TopicConsumer
from .results import ConsumedMessages

CONSUMER_RETRY = timedelta(seconds=5)


def consumer_job(name: str, open_consumer: Callable[[], TopicConsumer]) -> Job:
    """Return the continuous job `name`, which runs a consumer, opened for each run, until it is stopped.

    If the broker or the ledger is unavailable, that is the error of the run, and it is tried again after five seconds.
    The result has the messages of the last run by outcome.
    """

    def run(run: JobRun) -> None:
        total = ConsumedMessages()

        def on_batch(consumed: ConsumedMessages) -> None:
            nonlocal total
            total += consumed
            run.report({"accepted": total.accepted, "duplicates": total.duplicates, "rejected": total.rejected})

        def on_unavailable(error: Unavailable) -> None:
            raise error

        open_consumer().run(run.stop, on_batch=on_batch, on_unavailable=on_unavailable)

    return Job(name, None, run, retry=CONSUMER_RETRY)
