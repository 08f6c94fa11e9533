"""The jobs of a server: webhooks and retention of each ledger, and for the live ledger what the settings ask for."""

import logging
import threading
from datetime import timedelta

from ....domain.errors import TallybookError
from ...jobs.builtin import projection_job
from ...jobs.job import Job
from ..job_settings import scheduled_jobs
from .ledgers import LedgerRegistry, ServedLedger
from .retention import retention_job
from .settings import ServerSettings
from .webhooks.dispatcher import webhooks_job
from .webhooks.endpoint_worker import ReportDelivery

_MAX_POLL_SECONDS = 1.0
_log = logging.getLogger("tallybook.server")


class ServerJobs:
    """Runs the jobs of the live and the test ledger of a server process."""

    def __init__(self, ledgers: LedgerRegistry, settings: ServerSettings, report_delivery: ReportDelivery) -> None:
        self._stop = threading.Event()
        self._threads = [
            _LedgerJobs(ledgers, settings, report_delivery, self._stop, livemode=livemode) for livemode in (True, False)
        ]

    def close(self) -> None:
        """Stop now. What is not done continues after the next start or in another process."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


class _LedgerJobs(threading.Thread):
    """Runs the jobs of one ledger when it exists."""

    def __init__(
        self,
        ledgers: LedgerRegistry,
        settings: ServerSettings,
        report_delivery: ReportDelivery,
        stop: threading.Event,
        *,
        livemode: bool,
    ) -> None:
        super().__init__(name=f"tallybook-jobs-{'live' if livemode else 'test'}")
        self._ledgers = ledgers
        self._settings = settings
        self._report_delivery = report_delivery
        self._livemode = livemode
        self._stop_event = stop
        self.start()

    def run(self) -> None:
        """Run the jobs, or wait until the ledger exists or is available again."""
        webhooks = self._settings.webhooks
        checks_existence = True
        while not self._stop_event.is_set():
            pause = webhooks.leader_check_interval_seconds
            try:
                if self._ledgers.is_open(livemode=self._livemode) or (
                    checks_existence and self._ledgers.exists(livemode=self._livemode)
                ):
                    ledger = self._ledgers.for_mode(livemode=self._livemode)
                    ledger.metering.jobs.run(
                        self._jobs(ledger), self._stop_event,
                        poll_seconds=min(webhooks.poll_interval_seconds, _MAX_POLL_SECONDS),
                    )  # fmt: skip
                else:
                    checks_existence = False  # later it is created by this process, or by one that runs its jobs
                    pause = webhooks.poll_interval_seconds
            except TallybookError as error:
                _log.warning("No jobs are run until the ledger is available: %s", error)
            except Exception:
                _log.exception("Running the jobs failed; retrying.")
            self._stop_event.wait(pause)

    def _jobs(self, ledger: ServedLedger) -> list[Job]:
        webhooks = self._settings.webhooks
        jobs = [
            webhooks_job(ledger, webhooks, self._report_delivery),
            retention_job(ledger, timedelta(seconds=self._settings.retention_interval_seconds)),
        ]
        if self._settings.projection:
            jobs.append(projection_job(ledger.metering.run_projection, is_essential=False))
        if self._livemode:
            jobs += scheduled_jobs(ledger.metering, self._settings.schedule)
        return jobs
