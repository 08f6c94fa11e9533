"""Prometheus metrics of topics, from their stored offsets: those of all consumers, in whichever process."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from .....domain.timestamps import to_microseconds
from ....topics.results import TopicLag

_LABELS = ["topic", "group", "partition"]


class _TopicCollector:
    """Yields the metrics of some partitions."""

    def __init__(self, lags: Sequence[TopicLag], now: float) -> None:
        self._lags = lags
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with a sample for each partition."""
        waiting = GaugeMetricFamily(
            "tallybook_topic_lag", "Messages of a partition that are not recorded yet.", labels=_LABELS
        )
        age = GaugeMetricFamily(
            "tallybook_topic_lag_age_seconds", "How long ago a consumer has read the lag.", labels=_LABELS
        )
        messages = CounterMetricFamily(
            "tallybook_topic_messages", "Messages of a partition by outcome.", labels=[*_LABELS, "outcome"]
        )
        for lag in self._lags:
            labels = [lag.topic, lag.group, str(lag.partition)]
            waiting.add_metric(labels, lag.lag)
            age.add_metric(labels, max(self._now - to_microseconds(lag.read_at) / 1e6, 0.0))
            for outcome, count in (
                ("accepted", lag.accepted), ("duplicate", lag.duplicates), ("rejected", lag.rejected)
            ):  # fmt: skip
                messages.add_metric([*labels, outcome], count)
        yield from (waiting, age, messages)


def render_topic_metrics(lags: Iterable[TopicLag], now: float) -> bytes:
    """Return the metrics of topics at a time, in the Prometheus text format."""
    registry = CollectorRegistry()
    registry.register(_TopicCollector(list(lags), now))
    return generate_latest(registry)
