"""Evidence packs: what they have, and when none is written."""

import json
import re
import zipfile
from pathlib import Path

import pytest
from tallybook.application import (
    CheckpointMismatch,
    CustomerWithoutUsage,
    EvidenceKind,
    InvalidCheckpointFile,
    InvalidParameter,
    Metering,
    MeterNotFound,
    TallybookError,
)
from tallybook.application.checkpoints.signing_keys import PrivateKey
from tallybook.application.evidence.program_text import check_program_sha256

from .conftest import SignedLedger
from .packs import END, START, PackFolder, load_program


def test_a_pack_has_the_totals_of_all_meters_and_closings(signed_ledger: SignedLedger) -> None:
    """A range whose rules changed has one total under the present rules; a period closed twice has two frozen ones."""
    pack = signed_ledger.write_pack("totals.zip")
    totals = [(total.meter, str(total.kind), f"{total.quantity:f}") for total in pack.totals]
    assert totals == [
        ("billed", "current", "25"),
        ("seats", "current", "19"),
        ("seats", "closed", "13"),
        ("seats", "closed", "4"),
        ("seats", "adjusted", "19"),
        ("tokens", "current", "39.5"),
        ("users", "current", "2"),
    ]
    with Metering.open(signed_ledger.url) as metering:
        for total in pack.totals:
            if total.kind is EvidenceKind.CURRENT:
                assert metering.total(total.meter, "acme", START, END).value == total.quantity


def test_a_pack_has_no_event_of_another_customer(signed_pack: PackFolder, signed_ledger: SignedLedger) -> None:
    """The events of others are hashes only."""
    assert not any(b"zeta" in signed_pack.read(name) for name in signed_pack.names)
    headings = signed_pack.read("events.txt").decode().split("\n")[:-1:2]
    streams = {json.loads(heading)[1] for heading in headings}
    assert {"meter/tokens", "event/a", "event/h", "period/seats/acme"} <= streams
    assert "event/i" not in streams


def test_the_page_names_who_changed_what(signed_pack: PackFolder) -> None:
    """With reasons as text: what comes from outside can't become markup. It makes no requests."""
    page = signed_pack.read("index.html").decode()
    assert "&lt;sent-twice&gt;" in page
    assert "ops@acme" in page
    assert "not recorded" in page  # the rule change has no author
    assert "late, cancelled, superseded" in page
    assert not re.search(r"<script|\bsrc=|\bhref=|url\(|@import|https?:", page)


def test_meters_can_be_named(signed_ledger: SignedLedger, tmp_path: Path) -> None:
    """A named meter without usage is in the pack; other meters are not."""
    with Metering.open(signed_ledger.url) as metering:
        assert len(metering.meters.list()) == 4
    pack = signed_ledger.write_pack("named.zip", meters=["users", "tokens"])
    assert [total.meter for total in pack.totals] == ["users", "tokens"]
    pack = signed_ledger.write_pack("zeta.zip", "zeta", meters=["users"])
    assert [(total.meter, total.event_count) for total in pack.totals] == [("users", 0)]
    folder = PackFolder.extract(load_program(), signed_ledger.folder / "zeta.zip", tmp_path / "zeta")
    assert not folder.check().startswith("WRONG")


@pytest.mark.parametrize(
    ("customer", "arguments", "error"),
    [
        ("nobody", {}, CustomerWithoutUsage),
        ("acme", {"meters": ["missing"]}, MeterNotFound),
        ("acme", {"checkpoints": "missing"}, InvalidCheckpointFile),
        ("acme", {"key": "other.pem"}, InvalidCheckpointFile),
        ("", {}, InvalidParameter),
    ],
)
def test_a_pack_is_written_whole_or_not_at_all(
    signed_ledger: SignedLedger, customer: str, arguments: dict[str, object], error: type[TallybookError]
) -> None:
    """An error leaves no file."""
    other = signed_ledger.folder / "other.pem"
    if not other.exists():
        PrivateKey.generate(other, "tallybook")
    given = {name: other if value == "other.pem" else value for name, value in arguments.items()}
    with pytest.raises(error):
        signed_ledger.write_pack("rejected.zip", customer, **given)
    assert not list(signed_ledger.folder.glob("rejected.zip*"))


def test_an_existing_file_is_replaced_only_with_overwrite(signed_ledger: SignedLedger) -> None:
    """The same ledger gives the same file."""
    pack = signed_ledger.write_pack("twice.zip")
    first = (signed_ledger.folder / "twice.zip").read_bytes()
    with pytest.raises(InvalidParameter, match="exists already"):
        signed_ledger.write_pack("twice.zip")
    assert signed_ledger.write_pack("twice.zip", overwrite=True) == pack
    assert (signed_ledger.folder / "twice.zip").read_bytes() == first
    assert pack.check_program_sha256 == check_program_sha256()
    with zipfile.ZipFile(signed_ledger.folder / "twice.zip") as archive:
        assert archive.testzip() is None


def test_a_changed_ledger_has_no_pack(signed_ledger: SignedLedger, tmp_path: Path) -> None:
    """The events must be those of the checkpoint."""
    for file in ("usage.db", "usage.checkpoints", "usage.checkpoints.leaves", "key.pem"):
        (tmp_path / file).write_bytes((signed_ledger.folder / file).read_bytes())
    copy = SignedLedger(tmp_path, signed_ledger.public_key)
    leaves = tmp_path / "usage.checkpoints.leaves"
    original = leaves.read_bytes()
    leaves.write_bytes(original[:32] + bytes(32) + original[64:])
    with pytest.raises((CheckpointMismatch, InvalidCheckpointFile)):
        copy.write_pack("changed.zip")
    leaves.unlink()
    with pytest.raises(InvalidCheckpointFile, match="writes it again"):
        copy.write_pack("changed.zip")
