"""What is measured of a server, for Prometheus: of one process, or of all its workers together."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)


class Measures:
    """The counters of one process. `are_shared` says that other workers count beside it, in files of a folder."""

    def __init__(self, *, are_shared: bool) -> None:
        disable_created_metrics()  # which say of each series when it began
        self._are_shared = are_shared
        self._registry = own = CollectorRegistry()
        self._requests = Counter(
            "tallybook_requests", "Requests that were answered.", ["operation", "method", "status"], registry=own
        )
        self._latency = Histogram(
            "tallybook_request_seconds", "How long it took to answer a request.", ["operation"],
            buckets=_LATENCIES, registry=own,
        )  # fmt: skip
        self._events = Counter("tallybook_events", "Meter events that were settled.", ["outcome"], registry=own)
        self._commit_events = Histogram(
            "tallybook_commit_events", "Meter events recorded in one transaction.", buckets=_SIZES, registry=own
        )
        self._commit_seconds = Histogram(
            "tallybook_commit_seconds", "How long a transaction took.", buckets=_LATENCIES, registry=own
        )
        self.waiting = Gauge(
            "tallybook_events_waiting", "Meter events that wait to be recorded.",
            registry=own, multiprocess_mode="livesum",
        )  # fmt: skip
        self._position = self._gauge("tallybook_projection_position", "How far the read models are folded.")
        self._head = self._gauge("tallybook_ledger_head", "The position of the ledger's newest event.")
        self._lag = self._gauge("tallybook_projection_lag", "How many events are to be folded still.")
        self._deliveries = Counter(
            "tallybook_webhook_deliveries", "Webhooks that were sent.", ["outcome"], registry=own
        )
        self._by_answer: dict[tuple[str, str, int], Counter] = {}
        self._by_operation: dict[str, Histogram] = {}

    def answered(self, operation: str, method: str, status: int, seconds: float) -> None:
        """A request was answered."""
        answer = (operation, method, status)
        counter = self._by_answer.get(answer)
        if counter is None:  # its labels are looked up once, which takes longer than to count
            counter = self._by_answer[answer] = self._requests.labels(operation, method, str(status))
        counter.inc()
        latency = self._by_operation.get(operation)
        if latency is None:
            latency = self._by_operation[operation] = self._latency.labels(operation)
        latency.observe(seconds)

    def committed(self, outcomes: Mapping[str, int], seconds: float) -> None:
        """A transaction was committed, with so many events of each outcome."""
        for outcome, count in outcomes.items():
            self._events.labels(str(outcome)).inc(count)
        self._commit_events.observe(sum(outcomes.values()))
        self._commit_seconds.observe(seconds)

    def delivered(self, outcome: str) -> None:
        """A webhook was sent: `delivered`, `failed` or `given_up`."""
        self._deliveries.labels(outcome).inc()

    def projected(self, position: int, head: int) -> None:
        """The read models are at a position of the ledger."""
        self._position.set(position)
        self._head.set(head)
        self._lag.set(head - position)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        if not self._are_shared:
            return generate_latest(self._registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone)
        return generate_latest(everyone)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(name, what, registry=self._registry, multiprocess_mode="livemostrecent")
