"""The screen Import: a file is uploaded, checked, and recorded as it was shown; rejected rows can be downloaded."""

import re
from collections.abc import Iterator
from contextlib import ExitStack

import httpx2
import pytest
from tallybook.application import AcceptancePolicy
from tallybook.application.interfaces.console.uploads import UploadLimit
from tallybook.application.interfaces.http.errors import ApiError
from tallybook.application.system_user import system_user
from tallybook.application.usage_import.uploads import MAX_UPLOAD_BYTES, PART_BYTES

from tallybook import Metering, utc_now
from tests.waiting import wait_until

from .ledgers import local_console

SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
DAY = f"{utc_now():%Y-%m-%d}"
ROWS = f"""timestamp;customer;tokens;identifier
{DAY};acme;1.500,5;i-1
{DAY};<script>alert(1)</script>;2,5;i-2
{DAY};;7;i-3
{DAY};bolt;many;i-4
""".encode("windows-1252")
OPTIONS = {"event_name": "tokens", "customer_column": "customer", "value_column": "tokens", "timezone": "UTC"}


@pytest.fixture(scope="module")
def ledger_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ledger with a meter."""
    url = f"sqlite:///{tmp_path_factory.mktemp('imports') / 'usage.db'}"
    with Metering.open(url, policy=AcceptancePolicy()) as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
    return url


@pytest.fixture(scope="module")
def client(ledger_url: str) -> Iterator[httpx2.Client]:
    """A client of a local console."""
    with (
        local_console(ledger_url) as console,
        httpx2.Client(base_url=console.url, headers=SAME_ORIGIN, follow_redirects=True, timeout=60) as browser,
    ):
        browser.get(console.start_url)
        yield browser


def send(client: httpx2.Client, fields: dict[str, str], contents: bytes | None, name: str = "usage.csv") -> str:
    """Send the form with a file, and return the page when the check has ended."""
    files = {"file": (name, contents, "text/csv")} if contents is not None else {"file": ("", b"")}
    response = client.post("/console/import", data={"form_key": f"k-{len(name)}-{fields!r:.60}", **fields}, files=files)
    return ended(client, response)


def ended(client: httpx2.Client, response: httpx2.Response) -> str:
    """Return the page of a task when the task has ended."""
    assert response.status_code == 200, response.text
    pages = [response.text]

    def has_ended() -> bool:
        pages.append(client.get(str(response.url)).text)
        return "data-task" not in pages[-1]

    wait_until(has_ended)
    return pages[-1]


def tiles(html: str) -> dict[str, str]:
    """Return the figures of a page."""
    return dict(re.findall(r'<dt>([^<]*)</dt><dd class="big"><data value="(\d+)"', html))


def test_a_file_is_checked_then_recorded_as_it_was_shown(client: httpx2.Client, ledger_url: str) -> None:
    """What is unclear is asked for; the same file is read in another way without an upload."""
    unclear = send(client, OPTIONS, ROWS, "usage.csv")
    assert "decimal" in re.findall(r'role="alert">([^<]*)', unclear)[0]
    upload = re.findall(r'name="upload" value="(\w+)"', unclear)[0]
    assert 'name="customer_column" type="text" value="customer"' in unclear, "what was entered is kept"
    checked = send(
        client,
        {**OPTIONS, "upload": upload, "decimal": ",", "thousands": ".", "payload_columns": "identifier=origin"},
        None,
        "again",
    )
    assert tiles(checked) == {"Would be recorded": "2", "Recorded before": "0", "In conflict": "0", "Rejected": "2"}
    assert "separated by semicolon, header in line 1" in checked
    assert "tokens=1500.5" in checked
    assert "origin=i-1" in checked
    assert "<script>alert" not in checked
    with Metering.open(ledger_url) as metering:
        assert metering.imports.list() == []
    form = {"form_key": "record", "upload": upload}
    recorded = ended(client, client.post("/console/import/record", data=form))
    assert tiles(recorded) == {"Recorded": "2", "Recorded before": "0", "In conflict": "0", "Rejected": "2"}
    with Metering.open(ledger_url) as metering:
        (run,) = metering.imports.list()
        assert (run.by, run.recorded, run.rejected) == (system_user(), 2, 2)
        assert run.run_id in recorded
    rejected = client.get(f"/console/import/rejected?upload={upload}")
    assert "rejected-usage.csv" in rejected.headers["content-disposition"]
    lines = rejected.content.decode("windows-1252").splitlines()
    assert lines[0] == "rejected_line;rejected_reason;timestamp;customer;tokens;identifier"
    assert [line.split(";")[0] for line in lines[1:]] == ["4", "5"]
    again = ended(client, client.post("/console/import/record", data={**form, "form_key": "again"}))
    assert tiles(again)["Recorded before"] == "2"


def test_what_is_no_usable_upload_is_an_error(client: httpx2.Client) -> None:
    """A file that is too large or empty, no file, another upload, and a record without a check."""
    large = {"file": ("large.csv", b"x" * (MAX_UPLOAD_BYTES + PART_BYTES))}
    assert client.post("/console/import", data={"form_key": "a"}, files=large).status_code == 413
    invalid: list[tuple[dict[str, str], bytes | None]] = [
        ({}, b""), ({}, None), ({"upload": "none"}, None), ({"timezone": "Nowhere"}, ROWS),
    ]  # fmt: skip
    for number, (fields, contents) in enumerate(invalid):
        files = {"file": ("usage.csv" if contents is not None else "", contents or b"")}
        response = client.post("/console/import", data={"form_key": f"b-{number}", **fields}, files=files)
        assert response.status_code == 400, response.text
    assert client.post("/console/import", data={"form_key": "c"}).status_code == 400
    assert client.post("/console/import/record", data={"form_key": "d", "upload": "none"}).status_code == 400
    part = b'--x\r\nContent-Disposition: form-data; name="form_key"\r\n\r\ne\r\n--x--\r\n'
    for content, parameter in ((b"--x\r\nnonsense", ""), (part, "; charset=undefined"), (part, "; charset=punycode")):
        headers = {"content-type": f"multipart/form-data; boundary=x{parameter}"}
        assert client.post("/console/import", content=content, headers=headers).status_code == 400
    failed = send(client, {}, b"\0\1\2", "binä日.csv")
    assert "it is not text" in failed
    upload = re.findall(r'name="upload" value="(\w+)"', failed)[0]
    disposition = client.get(f"/console/import/rejected?upload={upload}").headers["content-disposition"]
    assert disposition == "attachment; filename*=utf-8''rejected-bin%C3%A4%E6%97%A5.csv"


def test_a_key_leaves_places_to_others() -> None:
    """Some files at once, and fewer of one key."""
    limit = UploadLimit(MAX_UPLOAD_BYTES)
    with ExitStack() as stack:
        for key_id in ("a", "a", "b", "c"):
            if key_id == "b":
                with pytest.raises(ApiError, match="Too many files"), limit.reservation("a"):
                    pass
            stack.enter_context(limit.reservation(key_id))
        with pytest.raises(ApiError, match="Too many files"), limit.reservation("d"):
            pass
    with limit.reservation("a"):
        pass
