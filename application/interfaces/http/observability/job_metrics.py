"""Prometheus metrics of the jobs of a ledger, from their stored states: those of all processes, not of this one."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from .....domain.timestamps import to_microseconds
from ....jobs.views import JobStatus, JobView


class _JobCollector:
    """Yields the metrics of some jobs."""

    def __init__(self, jobs: Sequence[JobView], now: float) -> None:
        self._jobs = jobs
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with a sample for each job."""
        last_run = GaugeMetricFamily(
            "tallybook_job_last_run_timestamp_seconds", "When the last run of a job started.", labels=["job"]
        )
        age = GaugeMetricFamily(
            "tallybook_job_last_success_age_seconds",
            "How long ago a run of a job last succeeded.",
            labels=["job"],
        )
        status = GaugeMetricFamily("tallybook_job_status", "1 for what a job does now.", labels=["job", "status"])
        runs = CounterMetricFamily("tallybook_job_runs", "Runs of a job.", labels=["job"])
        failures = CounterMetricFamily("tallybook_job_failures", "Failed runs of a job.", labels=["job"])
        for job in self._jobs:
            if job.started_at is not None:
                last_run.add_metric([job.name], to_microseconds(job.started_at) / 1e6)
            if job.succeeded_at is not None:
                age.add_metric([job.name], max(self._now - to_microseconds(job.succeeded_at) / 1e6, 0.0))
            for possible in JobStatus:
                status.add_metric([job.name, possible], float(job.status is possible))
            runs.add_metric([job.name], job.runs)
            failures.add_metric([job.name], job.failures)
        yield from (last_run, age, status, runs, failures)


def render_job_metrics(jobs: Iterable[JobView], now: float) -> bytes:
    """Return the metrics of jobs at a time, in the Prometheus text format."""
    registry = CollectorRegistry()
    registry.register(_JobCollector(list(jobs), now))
    return generate_latest(registry)
