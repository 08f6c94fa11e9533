"""Prometheus metrics of one server process, or of all workers together."""

import collections
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from ....results import Receipt
from .access_log import AccessLog, RequestSummary

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)


class Metrics:
    """The metrics of one process. With `is_multiprocess` the workers share their values in files."""

    def __init__(self, *, is_multiprocess: bool) -> None:
        disable_created_metrics()  # the _created series double the output
        self._is_multiprocess = is_multiprocess
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "tallybook_requests", "Finished requests.", ["operation", "method", "status"], registry=registry
        )
        self._latency = Histogram(
            "tallybook_request_duration_seconds", "Duration of a request, in seconds.", ["operation"],
            buckets=_LATENCIES, registry=registry,
        )  # fmt: skip
        self._events = Counter("tallybook_events", "Meter events by outcome.", ["outcome"], registry=registry)
        self._commit_events = Histogram(
            "tallybook_commit_events", "Meter events per transaction.", buckets=_SIZES, registry=registry
        )
        self._commit_seconds = Histogram(
            "tallybook_commit_duration_seconds",
            "Duration of a transaction, in seconds.",
            buckets=_LATENCIES,
            registry=registry,
        )
        self.queued_events = Gauge(
            "tallybook_queued_events", "Meter events waiting to be recorded.",
            registry=registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self._position = self._gauge("tallybook_projection_position", "The position of the live read models.")
        self._head = self._gauge("tallybook_ledger_head", "The position of the ledger's newest event.")
        self._lag = self._gauge(
            "tallybook_projection_lag", "Events of the ledger that the live read models do not contain yet."
        )
        self._deliveries = Counter(
            "tallybook_webhook_deliveries", "Webhook delivery attempts by outcome.", ["outcome"], registry=registry
        )
        self._request_counters: dict[tuple[str, str, int], Counter] = {}
        self._latency_histograms: dict[str, Histogram] = {}
        self._outbox_gauges: Sequence[Gauge] = ()
        self._checkpoint_age: Gauge | None = None
        self._import_age: Gauge | None = None

    def observe_request(self, operation: str, method: str, status: int, seconds: float) -> None:
        """Record a finished request."""
        labels = (operation, method, status)
        counter = self._request_counters.get(labels)
        if counter is None:  # looking up labels takes longer than counting
            counter = self._request_counters[labels] = self._requests.labels(operation, method, str(status))
        counter.inc()
        latency = self._latency_histograms.get(operation)
        if latency is None:
            latency = self._latency_histograms[operation] = self._latency.labels(operation)
        latency.observe(seconds)

    def observe_commit(self, outcomes: Mapping[str, int], seconds: float) -> None:
        """Record a committed transaction, with the number of events of each outcome."""
        self.count_events(outcomes)
        self._commit_events.observe(sum(outcomes.values()))
        self._commit_seconds.observe(seconds)

    def count_events(self, outcomes: Mapping[str, int]) -> None:
        """Count the events of each outcome."""
        for outcome, count in outcomes.items():
            self._events.labels(str(outcome)).inc(count)

    def observe_delivery(self, outcome: str) -> None:
        """Record a delivery attempt: `delivered`, `failed` or `given_up`."""
        self._deliveries.labels(outcome).inc()

    def set_position(self, position: int, head: int) -> None:
        """Set the position of the live read models and the head of the ledger."""
        self._position.set(position)
        self._head.set(head)
        self._lag.set(head - position)

    def set_outbox_lag(self, waiting: int | None, rejected: int | None, age_seconds: float | None) -> None:
        """Set the lag of the outbox: NaN if its database can't be read. Without an outbox there are no such metrics."""
        self._outbox_gauges = self._outbox_gauges or (
            self._gauge("tallybook_outbox_waiting", "Rows of the outbox that wait for a relay."),
            self._gauge("tallybook_outbox_rejected", "Rows of the outbox that the ledger rejected."),
            self._gauge("tallybook_outbox_age_seconds", "How long the first of the waiting rows waits, in seconds."),
        )
        for gauge, value in zip(self._outbox_gauges, (waiting, rejected, age_seconds), strict=True):
            gauge.set(math.nan if value is None else value)

    def set_checkpoint_age(self, age_seconds: float | None) -> None:
        """Set how long ago a checkpoint was last published: NaN if none was. There is no such metric without a key."""
        self._checkpoint_age = self._checkpoint_age or self._gauge(
            "tallybook_checkpoint_age_seconds", "How long ago new events were last covered by a published checkpoint."
        )
        self._checkpoint_age.set(math.nan if age_seconds is None else age_seconds)

    def set_import_age(self, age_seconds: float | None) -> None:
        """Set how long ago each object import has succeeded: NaN if one never has. There is none without imports."""
        self._import_age = self._import_age or self._gauge(
            "tallybook_object_import_age_seconds",
            "How long ago the object import that is behind most has last succeeded.",
        )
        self._import_age.set(math.nan if age_seconds is None else age_seconds)

    def render(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        if not self._is_multiprocess:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)

    def _gauge(self, name: str, description: str) -> Gauge:
        return Gauge(name, description, registry=self._registry, multiprocess_mode="livemostrecent")


@dataclass(frozen=True, slots=True)
class Observer:
    """Receives the activity of a server, for metrics and the access log."""

    metrics: Metrics
    access_log: AccessLog | None = None

    def request_finished(self, summary: RequestSummary) -> None:
        """Record a finished request."""
        self.metrics.observe_request(summary.operation, summary.method, summary.status, summary.seconds)
        if self.access_log is not None:
            self.access_log.write(summary)

    def queue_changed(self, events: int) -> None:
        """Add to the number of waiting events."""
        self.metrics.queued_events.inc(events)

    def batch_committed(self, receipts: Sequence[Receipt], seconds: float) -> None:
        """Record a committed transaction."""
        self.metrics.observe_commit(collections.Counter(receipt.outcome for receipt in receipts), seconds)

    def pruned_compared(self, receipts: Sequence[Receipt]) -> None:
        """Record the outcomes of events that were compared with pruned ones."""
        self.metrics.count_events(collections.Counter(receipt.outcome for receipt in receipts))

    def close(self) -> None:
        """Write pending lines of the access log."""
        if self.access_log is not None:
            self.access_log.flush()
