"""Imports of usage files over HTTP: a check, the import with the same options, and the rejected rows."""

import base64
from functools import partial

import pytest
from tallybook.application.usage_import import uploads
from tallybook.application.usage_import.error_rows import ErrorFile
from tallybook.application.usage_import.formats import Row

from ...notation import Ledger
from .api_client import ApiClient, Json, unix_time
from .test_tasks import ended

IMPORTS = "/v1/billing/imports"
OPTIONS: Json = {"event_name": "calls", "customer_column": "who", "value_column": "n"}


@pytest.fixture
def contents(ledger: Ledger) -> str:
    """A file with a row that has no number, for a ledger with a meter."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 5  id=one
    """)
    at = unix_time("10:06")
    return f"timestamp,who,n,identifier\n{at},acme,2,i-1\n{at},bolt,many,i-2\n{at},bolt,3,i-3\n"


def test_a_file_is_checked_then_imported(contents: str, api: ApiClient) -> None:
    """The upload is read as in its check. Again, nothing is recorded twice."""
    checked = ended(api, api.post(IMPORTS, dry_run=True, contents=contents, file_name="usage.csv", **OPTIONS))
    assert (checked["status"], checked["type"]) == ("succeeded", "import_check")
    assert [checked["result"][name] for name in ("rows", "accepted", "rejected", "import_run")] == [3, 2, 1, None]
    upload = checked["result"]["upload"]
    report = api.get(f"{IMPORTS}/{upload}")
    assert (report["dry_run"], report["dialect"]["delimiter"], report["dialect"]["header_line"]) == (True, ",", 1)
    assert [row["identifier"] for row in report["first_rows"]] == ["i-1", "i-3"]
    assert [(row["line"], row["code"]) for row in report["first_rejected"]] == [(3, "payload_invalid_value")]
    events = partial(api.get, "/v1/billing/meter_events", event_name="calls", customer="bolt")
    assert events()["data"] == []
    imported = ended(api, api.post(IMPORTS, upload=upload))
    assert (imported["type"], imported["result"]["accepted"]) == ("import", 2)
    assert [event["identifier"] for event in events()["data"]] == ["i-3"]
    assert api.get(f"{IMPORTS}/{upload}")["import_run"] == imported["result"]["import_run"]
    rejected = api.get(f"{IMPORTS}/{upload}/rejected_rows")
    assert (rejected["file_name"], rejected["has_more"]) == ("rejected-usage.csv", False)
    assert base64.b64decode(rejected["contents_base64"]).decode().splitlines()[1].startswith("3,")
    again = ended(api, api.post(IMPORTS, upload=upload))
    assert (again["result"]["accepted"], again["result"]["duplicate"]) == (0, 2)
    encoded = base64.b64encode(contents.encode()).decode()
    third = ended(api, api.post(IMPORTS, contents_base64=encoded, file_name="usage.csv", **OPTIONS))
    assert third["result"]["duplicate"] == 2


def fail_to_write(file: ErrorFile, _row: Row, _reason: str) -> None:
    """Do what an error file does on a full disk."""
    file.error = OSError("No space left on device")


@pytest.mark.parametrize("is_long", [True, False], ids=["long", "disk full"])
def test_rejected_rows_are_stored_whole_or_not_at_all(
    contents: str, api: ApiClient, monkeypatch: pytest.MonkeyPatch, is_long: bool
) -> None:
    """Whoever mends a part of them would take it for all."""
    if is_long:
        monkeypatch.setattr(uploads, "MAX_REJECTED_BYTES", 40)
        monkeypatch.setattr(uploads, "PART_BYTES", 30)
    else:
        monkeypatch.setattr(ErrorFile, "write", fail_to_write)
    task = ended(api, api.post(IMPORTS, contents=contents, file_name="usage.csv", **OPTIONS))
    upload = task["result"]["upload"]
    report = api.get(f"{IMPORTS}/{upload}")
    assert (report["rejected"], report["has_rejected_rows"]) == (1, False)
    assert api.error("GET", f"{IMPORTS}/{upload}/rejected_rows") == (404, "resource_missing", "part")


def test_a_report_is_short(contents: str, api: ApiClient) -> None:
    """Also if texts of the file are long."""
    row = f"{unix_time('10:06')},acme,2,{'x' * 500_000}\n"
    checked = ended(api, api.post(IMPORTS, dry_run=True, contents=contents + row, file_name="usage.csv", **OPTIONS))
    rejected = api.get(f"{IMPORTS}/{checked['result']['upload']}")["first_rejected"][-1]
    assert (rejected["line"], len(rejected["identifier"])) == (5, 201)


def test_invalid_imports(contents: str, api: ApiClient) -> None:
    """Nothing is started; a file that can't be read fails the task."""
    assert api.error("POST", IMPORTS, "read", upload="none")[:2] == (403, "more_permissions_required")
    assert api.error("POST", IMPORTS) == (400, "parameter_missing", "contents")
    assert api.error("POST", IMPORTS, contents="a") == (400, "parameter_missing", "file_name")
    assert api.error("POST", IMPORTS, contents_base64="?", file_name="a.csv")[2] == "contents_base64"
    assert api.error("POST", IMPORTS, contents="a", file_name="a.csv", timezone="Nowhere")[0] == 400
    assert api.error("POST", IMPORTS, upload="none") == (404, "resource_missing", "id")
    assert api.error("GET", f"{IMPORTS}/none") == (404, "resource_missing", "id")
    failed = ended(api, api.post(IMPORTS, contents=contents, file_name="usage.csv"))
    assert (failed["status"], failed["error"]["code"]) == ("failed", "invalid_import_file")
