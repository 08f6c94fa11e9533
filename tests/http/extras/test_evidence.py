"""Evidence packs over HTTP: the file of the command line, for those who may read the customer."""

import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
from starlette.applications import Starlette
from tallybook.application import Metering
from tallybook.application.checkpoints.signing_keys import PrivateKey
from tallybook.application.interfaces.http.downloads import UnreadDownloads, WrittenDownload
from tallybook.application.interfaces.http.request_handler import RequestHandler

from ...evidence.packs import load_program
from ...notation import Clock, Ledger
from ...waiting import wait_until
from .api_client import ApiClient, Json, serve_api, unix_time

URL = "/v1/billing/evidence"
HISTORY = """
    meter   tokens  sum
    meter   seats   sum
    10:05   acme tokens 25  id=a  reseller=zeta
    10:10   zeta tokens 7   id=z  reseller=acme
    close   acme tokens 10 11  at=11T02:00
    cancel  a  at=11T03:00  reason=wrong  by=ops
"""
NOVEMBER: Json = {"start_time": unix_time("2026-11-01T00:00"), "end_time": unix_time("2026-12-01T00:00")}
ACME: Json = {"customer": "acme", **NOVEMBER}
RANGE = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The private key of a server that publishes checkpoints to a file."""
    file = tmp_path / "key.pem"
    PrivateKey.generate(file, "tallybook")
    monkeypatch.setenv("TALLYBOOK_CHECKPOINT__KEY", str(file))
    monkeypatch.setenv("TALLYBOOK_CHECKPOINT__DESTINATIONS", f"{tmp_path}/published, {tmp_path}/copy")
    return file


@pytest.fixture
def api(key_file: Path, url: str, metering: Metering, ledger: Ledger, clock: Clock) -> Iterator[ApiClient]:
    """A client of that server, after its job has published a checkpoint."""
    assert key_file.exists()
    ledger.given(HISTORY)
    with serve_api(url, metering, clock) as client:
        wait_until(lambda: any(job.name == "checkpoint" and job.succeeded_at for job in metering.jobs.list()))
        yield client


def download(api: ApiClient, scope: str = "read", *, meters: Sequence[str] = (), **params: Any) -> httpx2.Response:
    """Return the response to a request for a pack, which is no JSON."""
    headers = {"Authorization": f"Bearer {api.keys[scope]}"}
    return api.runner.run(api.client.get(URL, params={**params, "meters[]": meters}, headers=headers))


def contents(pack: bytes) -> dict[str, bytes]:
    """Return the files in a pack."""
    with zipfile.ZipFile(BytesIO(pack)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_pack_is_that_of_the_command_line(api: ApiClient, metering: Metering, key_file: Path) -> None:
    """The same files with the same signature; the program in it checks it, with the published checkpoint."""
    response = download(api, **ACME)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/zip")
    assert response.headers["content-disposition"] == 'attachment; filename="evidence.zip"'
    assert response.headers["request-id"].startswith("req_")
    documented = api.documented.operation("GET", URL)["responses"]["200"]["content"]
    assert documented == {"application/zip": {}}
    file, checkpoints = key_file.with_name("cli.zip"), key_file.with_name("published")
    metering.evidence.write(file, "acme", *RANGE, checkpoints=checkpoints, key=key_file)
    assert contents(response.content) == contents(file.read_bytes())
    assert "SHA256SUMS.signature" in contents(response.content)
    key_file.with_name("http.zip").write_bytes(response.content)
    program = load_program()
    pack = program.Pack(key_file.with_name("http.zip"))
    assert "tokens adjusted: 0" in "\n".join(program.check(pack, "", checkpoints.read_text()))


def test_the_meters_can_be_selected(api: ApiClient) -> None:
    """As by --meter."""
    assert b'"seats"' in contents(download(api, meters=["seats"], **ACME).content)["totals.json"]
    assert b'"seats"' not in contents(download(api, **ACME).content)["totals.json"]


def test_invalid_requests(api: ApiClient, tmp_path: Path) -> None:
    """Each names what to change; those about the server name the setting."""
    for params, expected in (
        ({"customer": "nobody", **NOVEMBER}, (400, "customer_without_usage", "customer")),
        ({**ACME, "meters": ["missing"]}, (400, "no_meter", "event_name")),
        ({**ACME, "end_time": NOVEMBER["start_time"] - 1}, (400, "invalid_time_range", "start_time")),
        (NOVEMBER, (400, "parameter_missing", "customer")),
    ):
        assert api.error("GET", URL, "read", **params) == expected, params
    assert api.error("GET", URL, "record", **ACME)[0] == 403
    (tmp_path / "published").write_text("x")
    assert api.error("GET", URL, "read", **ACME)[:2] == (500, "")
    (tmp_path / "published").unlink()
    assert api.error("GET", URL, "read", **ACME)[:2] == (400, "invalid_checkpoint_file")


@pytest.mark.parametrize(
    ("setting", "code"), [("KEY", "invalid_signing_key"), ("DESTINATIONS", "invalid_checkpoint_file")]
)
def test_a_server_without_checkpoints(
    key_file: Path, setting: str, code: str, url: str, metering: Metering, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has nothing to prove with."""
    assert key_file.exists()
    monkeypatch.delenv(f"TALLYBOOK_CHECKPOINT__{setting}")
    with serve_api(url, metering, clock) as api:
        assert api.error("GET", URL, "read", **ACME)[:2] == (400, code)


def test_a_limited_key(api: ApiClient, metering: Metering, ledger: Ledger) -> None:
    """It gets the packs of its customer, without the names of meters that it may not read."""
    api.keys["limited"] = metering.access_keys.create(["read"], customers=["acme"]).key
    assert download(api, "limited", **ACME).status_code == 200
    assert download(api, "limited", **{**ACME, "customer": "zeta"}).status_code == 403
    ledger.given("meter  resold  sum from tokens customer=reseller value=tokens")
    api.post("/v1/billing/checkpoints")
    for meters, status in (([], 403), (["tokens"], 403), (["resold"], 400), (["seats"], 200)):
        response = download(api, "limited", meters=meters, **ACME)
        assert response.status_code == status, meters
    assert not any(b"resold" in text for text in contents(response.content).values())
    assert any(b"resold" in text for text in contents(download(api, **ACME).content).values())


def test_unread_packs_are_bounded(api: ApiClient, metering: Metering) -> None:
    """A key that doesn't read its packs gets no more of them."""
    transport = cast(httpx2.ASGITransport, api.client._transport)  # pyright: ignore[reportPrivateUsage]
    handler: RequestHandler = cast(Starlette, transport.app).state.request_handler
    handler.downloads = UnreadDownloads(max_bytes_per_key=1)
    (reader,) = (key.id for key in metering.access_keys.list() if "read" in key.scopes)
    unread = handler.downloads.response(WrittenDownload("a.zip", BytesIO(b"12"), 2, "application/zip"), reader)
    assert download(api, **ACME).status_code == 429
    del unread
    assert download(api, **ACME).status_code == 200
