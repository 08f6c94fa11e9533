"""Jobs over HTTP: the server's own are listed, paused and resumed, and are metrics."""

from pathlib import Path

from tallybook.application import Metering
from tallybook.application.clock import utc_now
from tallybook.application.interfaces.http.ledgers import LedgerRegistry
from tallybook.application.interfaces.http.server_jobs import ServerJobs
from tallybook.application.interfaces.http.settings import ServerSettings
from tallybook.domain.acceptance_policy import AcceptancePolicy

from ...waiting import wait_until
from ..ops.test_observability import metric_labels, parse_metrics
from .api_client import ApiClient

JOBS = "/v1/billing/jobs"


def test_the_jobs_of_a_server(api: ApiClient) -> None:
    """Webhooks run continuously, and expired entries are deleted at an interval."""
    wait_until(lambda: [job["status"] for job in api.list_all(JOBS) if job["runs"]] == ["waiting", "running"])
    retention, webhooks = api.list_all(JOBS, limit=1)
    assert (retention["id"], retention["interval_seconds"], retention["result"]) == ("retention", 60, {"deleted": 0})
    assert (webhooks["id"], webhooks["interval_seconds"], webhooks["livemode"]) == ("webhooks", None, True)
    assert api.get(f"{JOBS}/webhooks")["runner"] == webhooks["runner"]
    assert api.error("GET", f"{JOBS}/none") == (404, "resource_missing", "id")
    assert api.error("GET", f"{JOBS}/N%20one") == (404, "resource_missing", "id")
    assert api.error("POST", f"{JOBS}/webhooks/pause", "read")[:2] == (403, "more_permissions_required")
    paused = api.post(f"{JOBS}/webhooks/pause")
    assert paused["paused_by"].startswith("sk_live_")
    wait_until(lambda: api.get(f"{JOBS}/webhooks")["status"] == "paused")
    headers = {"Authorization": f"Bearer {api.keys['read']}"}
    samples = parse_metrics(api.runner.run(api.client.get("/metrics", headers=headers)).text)
    assert samples["tallybook_job_status", metric_labels(job="webhooks", status="paused")] == 1
    assert samples["tallybook_job_failures_total", metric_labels(job="retention")] == 0
    assert samples["tallybook_job_last_success_age_seconds", metric_labels(job="retention")] < 60
    assert samples["tallybook_job_last_run_timestamp_seconds", metric_labels(job="retention")] > 1e9
    api.post(f"{JOBS}/webhooks/resume")
    wait_until(lambda: api.get(f"{JOBS}/webhooks")["status"] == "running")


def test_the_projection_is_a_job_on_request(tmp_path: Path) -> None:
    """Then usage is folded before it is asked for; while it is paused, the next query does that."""
    url = f"sqlite:///{tmp_path / 'usage.db'}"
    registry = LedgerRegistry(url, AcceptancePolicy(), utc_now)
    metering: Metering = registry.for_mode(livemode=True).metering

    def record() -> int:
        metering.record("tokens", {"stripe_customer_id": "acme", "value": "1"})
        return metering.generations.list()[0].head

    metering.meters.configure("tokens")
    jobs = ServerJobs(registry, ServerSettings(ledger=url, projection=True), list[str]().append)
    try:
        head = record()
        wait_until(lambda: metering.generations.list()[0].position == head)
        wait_until(lambda: metering.jobs.get("projection").status == "running")
        metering.jobs.pause("projection")
        wait_until(lambda: metering.jobs.get("projection").status == "paused")
        assert metering.generations.list()[0].position < record()
    finally:
        jobs.close()
        registry.close()
