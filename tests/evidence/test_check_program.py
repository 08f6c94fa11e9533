"""The program check.py finds every change of a pack, on a machine without Tallybook."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application.evidence.program_text import check_program

from ..sampling import examples
from .conftest import SignedLedger
from .packs import LIST, PackFolder

LIST_SIGNATURE = f"{LIST}.signature"


def run_alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program of a folder without site packages, environment and Tallybook."""
    command = [sys.executable, "-I", "-S", "check.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_the_program_needs_python_alone(signed_pack: PackFolder, signed_ledger: SignedLedger, tmp_path: Path) -> None:
    """It checks the folder that it is in, or a zip file, against a trusted key and checkpoint."""
    in_folder = run_alone(signed_pack.folder)
    assert (in_folder.returncode, in_folder.stderr) == (0, "")
    assert "the list is signed by the same key" in in_folder.stdout
    assert "compare the key" in in_folder.stdout
    (tmp_path / "check.py").write_bytes(check_program())
    pack, trusted = str(signed_ledger.folder / "signed.zip"), str(signed_ledger.checkpoints)
    result = run_alone(tmp_path, pack, "--key", signed_ledger.public_key, "--checkpoint", trusted)
    assert (result.returncode, result.stderr) == (0, "")
    assert "compare the key" not in result.stdout
    other = "tallybook+cf2f0c3b+AdjmDCUJY8lbCEodpvpaI7glRb7AaBBJWEqAfYwJPq1u"
    assert run_alone(tmp_path, pack, "--key", other).returncode == 1


def test_the_program_is_python_3_8_with_the_standard_library() -> None:
    """Its syntax and its imports are those of the oldest supported version."""
    tree = ast.parse(check_program(), feature_version=(3, 8))
    modules = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert modules <= sys.stdlib_module_names
    assert not re.findall(rb"removeprefix|removesuffix|zip\(.*strict|\bmatch \w+:", check_program())


def test_the_program_of_the_pack_finds_a_change_of_itself(signed_pack: PackFolder, tmp_path: Path) -> None:
    """As far as the changed program still compares anything."""
    changed = signed_pack.copy(tmp_path / "changed")
    changed.write("check.py", check_program().replace(b"evidence pack", b"evidence peck", 1))
    result = run_alone(changed.folder)
    assert (result.returncode, result.stdout) == (1, "WRONG check.py: it is not as listed in SHA256SUMS\n")


@settings(max_examples=examples(150))
@given(st.data())
def test_every_changed_character_is_found(signed_pack: PackFolder, data: st.DataObject) -> None:
    """In every file of the pack, also in the program. The file is named."""
    name = data.draw(st.sampled_from(signed_pack.names))
    original = signed_pack.read(name)
    offset = data.draw(st.integers(0, len(original) - 1))
    character = data.draw(st.integers(0, 255).filter(lambda byte: byte != original[offset]))
    signed_pack.write(name, original[:offset] + bytes([character]) + original[offset + 1 :])
    try:
        result = signed_pack.check()
    finally:
        signed_pack.write(name, original)
    assert result.startswith("WRONG")
    assert name.removesuffix(".signature") in result or re.search(r"\S+: it is (missing|not as listed)", result)


def test_missing_and_additional_files_are_found(signed_pack: PackFolder, tmp_path: Path) -> None:
    """Each is named; only the signature of the list may be missing, which the program reports."""
    for number, name in enumerate(signed_pack.names):
        changed = signed_pack.copy(tmp_path / str(number))
        (changed.folder / name).unlink()
        result = changed.check()
        assert ("the list is not signed" if name == LIST_SIGNATURE else f"{name}: it is missing") in result
    changed = signed_pack.copy(tmp_path / "more")
    changed.write("more.txt", b"")
    assert changed.check() == f"WRONG more.txt: it is not as listed in {LIST}"


def totals_with(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    """Return a function that changes the adjusted total in totals.json."""

    def change_adjusted(text: str) -> str:
        document = json.loads(text)
        change(next(total for total in document["totals"] if total["kind"] == "adjusted"))
        return json.dumps(document)

    return change_adjusted


def hide_settlement(total: dict[str, Any]) -> None:
    """Change an adjusted total so that what was settled is owed again, as a consistent document says it."""
    roll = total["roll_forward"]
    owed = str(int(roll["now"]) - int(roll["frozen"]))
    total["settlement_position"] = None
    total["difference"] = total["billable_difference"] = roll["open"] = owed
    roll["settled"] = "0"


def move_change(total: dict[str, Any]) -> None:
    """Change the reason of a change: its amount stays."""
    roll = total["roll_forward"]
    roll["recalculated"], roll["late"] = roll["late"], roll["recalculated"]


def replaced(old: str, new: str) -> Callable[[str], str]:
    """Return a function that replaces text, which must be there."""

    def replace(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return replace


NOT_IN_TREE = "events.txt: the events and hashes.txt do not lead to the root"
FORGERIES: dict[str, tuple[str, Callable[[str], str], str]] = {
    "payload": (
        "events.txt",
        replaced('"tokens":"25"', '"tokens":"26"'),
        NOT_IN_TREE,
    ),
    "reason": ("events.txt", replaced("mistake", "mystery"), NOT_IN_TREE),
    "author": ("events.txt", replaced("ops@acme", "ops@zeta"), NOT_IN_TREE),
    "position": ("events.txt", replaced("[1,", "[2,"), "events.txt: position 2 is in the place of 1"),
    "event left out": ("events.txt", lambda text: text.split("\n", 2)[2], "events.txt: position"),
    "hash": ("hashes.txt", replaced("0 ", "1 "), "hashes.txt"),
    "huge level": ("hashes.txt", replaced("0 ", "9999999999 "), "a subtree is in the wrong place"),
    "exponent": ("totals.json", replaced('"quantity": "25"', '"quantity": "25e999999999"'), "is no number in plain"),
    "root": ("checkpoint.txt", lambda text: re.sub(r"\n(.)", "\nA", text, count=2), "checkpoint.txt: it is not signed"),
    "time": ("checkpoint.txt", replaced("time 20", "time 19"), "checkpoint.txt: it is not signed"),
    "other key": ("public-key.txt", replaced("tallybook+", "tallybool+"), "checkpoint.txt: tallybool+"),
    "quantity": ("totals.json", replaced('"quantity": "', '"quantity": "1'), "the events give the quantity"),
    "billable": ("totals.json", replaced('"billable": "', '"billable": "1'), "the events give the billable"),
    "digest": ("totals.json", replaced('"digest": "', '"digest": "0'), "the events give the digest"),
    "customer": ("totals.json", replaced('"acme"', '"zeta"'), "totals.json: the events give"),
    "meter": ("totals.json", replaced('"meter": "seats"', '"meter": "users"'), "totals.json: the events give"),
    "rules": ("totals.json", replaced('"event_time_window": "hour"', '"event_time_window": null'), "give the rules"),
    "kind": ("totals.json", replaced('"kind": "closed"', '"kind": "frozen"'), "no total of the kind frozen"),
    "difference": ("totals.json", replaced('"difference": "', '"difference": "1'), "the adjustment of the closing"),
    "roll-forward": ("totals.json", replaced('"late": "', '"late": "1'), "the adjustment of the closing"),
    "hidden settlement": ("totals.json", totals_with(hide_settlement), "has another settlement"),
    "kind of a change": ("totals.json", totals_with(move_change), "the adjustment of the closing"),
    "counted range": (
        "totals.json",
        totals_with(lambda total: total.update(counted_from="2026-11-09T00:00:00Z")),
        "has another ['counted_from']",
    ),
    "position of the total": (
        "totals.json",
        totals_with(lambda total: total.update(position=total["position"] - 1)),
        "there is no total of the kind adjusted at",
    ),
    "closing": ("totals.json", replaced('"closing_position": 1', '"closing_position": 2'), "there is no PeriodClosed"),
    "range": ("totals.json", replaced("2026-12-01", "2026-11-09"), "totals.json: the total of billed counts"),
    "verdict": ("explanation-2-current.csv", replaced(",superseded,", ",counted,"), "has another verdict"),
    "contribution": ("explanation-2-current.csv", replaced("counted,4", "counted,5"), "has another contribution"),
    "on behalf of": ("explanation-4-closed.csv", replaced(",ops@acme,,", ",ops@acme,ceo,"), "has another on_behalf_of"),
    "column twice": ("explanation-2-current.csv", replaced("position,", "position,position,"), "it has a column twice"),
    "additional column": (
        "explanation-2-current.csv",
        lambda text: text.replace("\r\n", ",noted\r\n"),
        "has more than is known of it",
    ),
    "counted range of current": (
        "totals.json",
        replaced('"counted_from": "2026-11-01', '"counted_from": "2026-11-02'),
        "counts another range",
    ),
    "row left out": ("explanation-2-current.csv", lambda text: text.rsplit("\n", 2)[0] + "\n", "a row for each event"),
}
"""What an intruder changes in a file, who then writes the list of hashes again; and what the program finds."""


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_with_a_new_list_is_found(forgery: str, unsigned_pack: PackFolder, tmp_path: Path) -> None:
    """Events are compared with the checkpoint, totals and explanations with the events."""
    name, change, finding = FORGERIES[forgery]
    forged = unsigned_pack.copy(tmp_path / "forged")
    text = forged.read(name).decode()
    forged.write(name, change(text).encode())
    assert forged.read(name).decode() != text
    forged.list_again()
    assert finding in forged.check()


def test_a_signed_list_protects_every_file(signed_pack: PackFolder, tmp_path: Path) -> None:
    """Also the page and the program, which follow from nothing else."""
    forged = signed_pack.copy(tmp_path / "forged")
    forged.write("index.html", forged.read("index.html").replace(b"Usage of acme", b"Usage of zeta"))
    forged.list_again()
    assert forged.check() == f"WRONG {LIST_SIGNATURE}: it is the signature of another list"
    note = forged.read(LIST_SIGNATURE).decode()
    digest = forged.program.Pack(forged.folder).sha256(LIST)
    forged.write(LIST_SIGNATURE, re.sub(r"\n[0-9a-f]{64}\n", f"\n{digest}\n", note).encode())
    assert forged.check().startswith(f"WRONG {LIST_SIGNATURE}: it is not signed by")


def test_a_pack_of_another_key_or_checkpoint_is_found(unsigned_pack: PackFolder, signed_ledger: SignedLedger) -> None:
    """A person can sign a pack of another ledger: so the recipient compares the key, or the checkpoint."""
    other = "tallybook+cf2f0c3b+AdjmDCUJY8lbCEodpvpaI7glRb7AaBBJWEqAfYwJPq1u"
    assert unsigned_pack.check(key=other) == "WRONG public-key.txt: it is not the key that you trust"
    trusted = signed_ledger.checkpoints.read_text()
    assert not unsigned_pack.check(checkpoints=trusted).startswith("WRONG")
    changed = trusted.replace("time 20", "time 19")
    assert (
        unsigned_pack.check(checkpoints=changed)
        == "WRONG checkpoint.txt: it is not among the checkpoints that you trust"
    )


def test_the_list_is_that_of_sha256sum(signed_pack: PackFolder) -> None:
    """A person can compare the files without Python too."""
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum")
    result = subprocess.run(
        ["sha256sum", "--check", "--strict", LIST], cwd=signed_pack.folder, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stdout


def test_totals_are_json(signed_pack: PackFolder) -> None:
    """For programs: numbers are text, so that they stay exact."""
    totals = json.loads(signed_pack.read("totals.json"))["totals"]
    assert {(total["meter"], total["kind"]) for total in totals} >= {("seats", "closed"), ("seats", "adjusted")}
    assert all(isinstance(total["quantity"], str) for total in totals)
