"""The command `evidence`."""

import json
import zipfile
from pathlib import Path

import pytest

from .command_line import CommandLine

CHECKPOINTS = ("--checkpoints", "usage.checkpoints")
OCTOBER = ("--period", "2025-10")


@pytest.fixture
def tallybook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Return a ledger with usage in October and a signed checkpoint; the commands run in the test's folder."""
    monkeypatch.chdir(tmp_path)
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "tokens", "--customer-key", "customer", "--value-key", "tokens")
    at = ("--timestamp", "2025-10-05T09:00", "--backfill")
    line.run("record", "tokens", "customer=acme", "tokens=25", "--identifier", "req-1", *at)
    line.run("checkpoint", "key", "key.pem")
    line.run("checkpoint", "create", *CHECKPOINTS, "--key", "key.pem")
    return line


def test_a_pack_is_written_and_described(tallybook: CommandLine, tmp_path: Path) -> None:
    """As text and as JSON, with the digests to state to the recipient."""
    lines = tallybook.lines("evidence", "acme", *OCTOBER, *CHECKPOINTS, "--key", "key.pem", "-o", "a.zip")
    assert lines[0] == "a.zip: acme, 2025-10 (UTC)"
    assert lines[3].split() == ["tokens", "current", "25", "25", "1", "1"]
    assert lines[-2].startswith("SHA-256 of SHA256SUMS  ")
    assert lines[-2].endswith(", signed")
    overwrite = ("-o", "a.zip", "--overwrite", "--meter", "tokens")
    result = tallybook.run_json("evidence", "acme", *OCTOBER, *CHECKPOINTS, *overwrite)
    assert (result["events"], result["position"], result["is_signed"]) == (2, 2, False)
    assert result["totals"][0]["quantity"] == "25"
    with zipfile.ZipFile(tmp_path / "a.zip") as pack:
        assert json.loads(pack.read("totals.json"))["customer"] == "acme"
        assert "public-key.txt" not in pack.namelist()


def test_wrong_arguments_write_nothing(tallybook: CommandLine, tmp_path: Path) -> None:
    """Each error names the option."""
    rest = (*CHECKPOINTS, "-o", "b.zip")
    tallybook.run("evidence", "acme", *rest, status=2)
    assert tallybook.run_error("evidence", "nobody", *OCTOBER, *rest) == ("customer_without_usage", "customer")
    assert tallybook.run_error("evidence", "acme", *OCTOBER, *rest, "--meter", "no") == ("no_meter", "event_name")
    wrong_key = (*rest, "--public-key", "x")
    assert tallybook.run_error("evidence", "acme", *OCTOBER, *wrong_key) == ("invalid_signing_key", "key")
    assert not list(tmp_path.glob("b.zip*"))
    tallybook.write("b.zip", "")
    assert tallybook.run_error("evidence", "acme", *OCTOBER, *rest) == ("parameter_invalid", "file")
