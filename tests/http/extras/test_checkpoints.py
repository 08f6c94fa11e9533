"""Checkpoints over HTTP: made by the server on a schedule or on request, listed, and used for proofs."""

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tallybook.application import JobRun, Metering, verify_inclusion
from tallybook.application.checkpoints.signing_keys import PrivateKey
from tallybook.application.interfaces.http.job_health import JobHealth, check_checkpoints
from tallybook.application.interfaces.http.ledgers import LedgerRegistry
from tallybook.application.interfaces.job_settings import CheckpointSettings, ScheduleSettings, scheduled_jobs
from tallybook.application.jobs.job import JobResult
from tallybook.domain.acceptance_policy import AcceptancePolicy

from ...notation import Clock, Ledger
from ...waiting import wait_until
from ..ops.test_observability import metric_labels, parse_metrics
from .api_client import ApiClient, serve_api

CHECKPOINTS, PROOF = "/v1/billing/checkpoints", "/v1/billing/checkpoint_proof"


@pytest.fixture
def key(tmp_path: Path) -> PrivateKey:
    """Return a private key in a file."""
    return PrivateKey.generate(tmp_path / "key.pem", "tallybook")


@pytest.fixture
def publishing_api(
    url: str, metering: Metering, clock: Clock, key: PrivateKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ApiClient]:
    """A client of a server that publishes checkpoints."""
    assert key
    monkeypatch.setenv("TALLYBOOK_CHECKPOINT__KEY", str(tmp_path / "key.pem"))
    monkeypatch.setenv("TALLYBOOK_CHECKPOINT__DESTINATIONS", str(tmp_path / "outside"))
    with serve_api(url, metering, clock) as client:
        yield client


def test_checkpoints_of_a_server(publishing_api: ApiClient, ledger: Ledger, key: PrivateKey, tmp_path: Path) -> None:
    """The first one is made at the start."""
    api = publishing_api
    wait_until(lambda: api.get(CHECKPOINTS)["data"])
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5  id=one
    """)
    assert api.error("GET", PROOF, identifier="one")[:2] == (404, "not_checkpointed")
    assert api.error("POST", CHECKPOINTS, "read")[:2] == (403, "more_permissions_required")
    created = api.post(CHECKPOINTS)
    assert created == api.get(f"{CHECKPOINTS}/latest") == api.get(f"{CHECKPOINTS}/{created['id']}")
    assert created["size"] == ledger.position()
    assert created["note"] in (tmp_path / "outside").read_text()
    listed = api.list_all(CHECKPOINTS, limit=1)
    assert [one["size"] for one in listed] == sorted((one["size"] for one in listed), reverse=True)
    assert api.get(CHECKPOINTS, ending_before=listed[-1]["id"])["data"] == listed[:-1]
    assert api.error("GET", f"{CHECKPOINTS}/none") == (404, "resource_missing", "id")
    assert api.error("GET", PROOF, identifier="two")[:2] == (404, "meter_event_not_found")
    proofs = api.get(PROOF, identifier="one")
    assert proofs["checkpoint"] == created["id"]
    (proof,) = proofs["proofs"]
    verified = verify_inclusion(proof["event"].encode(), proof["proof"], key=str(key.public_key))
    assert (verified.position, verified.originator_id) == (proof["position"], "event/one")
    readiness = api.runner.run(api.client.get("/readyz")).json()
    assert readiness["checkpoint"]["status"] == "ready"
    headers = {"Authorization": f"Bearer {api.keys['read']}"}
    samples = parse_metrics(api.runner.run(api.client.get("/metrics", headers=headers)).text)
    assert not math.isnan(samples["tallybook_checkpoint_age_seconds", metric_labels()])


def test_a_server_without_a_key(api: ApiClient) -> None:
    """It says what is missing, and reports no age."""
    assert api.error("POST", CHECKPOINTS)[:2] == (400, "invalid_signing_key")
    assert api.error("GET", f"{CHECKPOINTS}/latest")[:2] == (404, "resource_missing")
    assert "checkpoint" not in api.runner.run(api.client.get("/readyz")).json()


def run_once(metering: Metering, settings: CheckpointSettings) -> None:
    """Run the job `checkpoint` once."""
    stop = threading.Event()
    (job, _) = scheduled_jobs(metering, ScheduleSettings(checkpoint=settings))
    runs = [view.runs for view in metering.jobs.list()]

    def run_and_stop(run: JobRun) -> JobResult | None:
        try:
            return job.run(run)
        finally:
            stop.set()

    metering.jobs.run([replace(job, run=run_and_stop, retry=timedelta(microseconds=1))], stop, poll_seconds=0.01)
    assert [view.runs for view in metering.jobs.list()] != runs


def test_a_late_or_failed_checkpoint_is_reported(url: str, metering: Metering, clock: Clock, tmp_path: Path) -> None:
    """The server stays ready."""
    assert metering
    settings = CheckpointSettings(key=str(tmp_path / "missing.pem"), interval_seconds=3_600, max_age_seconds=1e-9)
    ledgers = LedgerRegistry(url, AcceptancePolicy(), clock, settings)
    ledger = ledgers.for_mode(livemode=True)
    assert check_checkpoints(ledger) == JobHealth("overdue")
    PrivateKey.generate(tmp_path / "key.pem", "tallybook")
    for name, status in (("missing.pem", "failed"), ("key.pem", "overdue")):
        run_once(ledger.metering, settings.model_copy(update={"key": str(tmp_path / name)}))
        health = check_checkpoints(ledger)
        assert health is not None
        assert health.status == status
    ledger.checkpoint_settings = settings.model_copy(update={"max_age_seconds": None})
    health = check_checkpoints(ledger)
    assert health is not None
    assert health.status == "ready"
    ledgers.close()
