"""The commands about seals."""

import base64
from pathlib import Path

import pytest

from ..application.command_line import CommandLine


@pytest.fixture
def tallybook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A ledger of three events, sealed; the commands run in the test's folder."""
    monkeypatch.chdir(tmp_path)
    line = CommandLine(tmp_path)
    line.run("meter", "configure", "tokens", "--customer-key", "customer", "--value-key", "tokens")
    for number in (2, 3):
        line.run("record", "tokens", "customer=acme", f"tokens={number}", "--identifier", f"req-{number}")
    line.run("seal", "--seals", "usage.seals")
    return line


def test_seals_are_made_and_verified(tallybook: CommandLine) -> None:
    """In a line for people, and in JSON."""
    answer = tallybook.answer("seal", "--seals", "usage.seals")
    assert {key: answer[key] for key in ("origin", "size", "signed_by")} == {
        "origin": "tallybook",
        "size": 3,
        "signed_by": [],
    }
    answer = tallybook.answer("verify", "--seals", "usage.seals")
    found = answer["seals"]
    assert answer["figures"]["is_equal"]
    assert (found["events"], found["sealed"], found["agreeing"], found["difference"]) == (3, 3, 2, None)
    assert tallybook.lines("verify", "--seals", "usage.seals")[1] == "3 of 3 events are sealed, all as they were sealed"


def test_a_private_key_is_made_once_and_its_public_one_printed_each_time(tallybook: CommandLine) -> None:
    """The line that verifies what it signed, given itself or in a file."""
    (public,) = tallybook.lines("seal-key", "seal.pem", "--name", "example.com/usage")
    assert tallybook.lines("seal-key", "seal.pem", "--name", "example.com/usage") == [public]
    words = ("--key", "seal.pem", "--name", "example.com/usage")
    assert "signed by example.com/usage" in tallybook.run("seal", "--seals", "signed", *words).stdout
    tallybook.run("verify", "--seals", "signed", "--key", public)
    tallybook.run("verify", "--seals", "signed", "--key", tallybook.write("public", public))
    assert tallybook.refusal("verify", "--seals", "usage.seals", "--key", public) == ("invalid_seal_file", "file")
    (other,) = tallybook.lines("seal-key", "other.pem")
    assert tallybook.refusal("verify", "--seals", "signed", "--key", other) == ("invalid_seal_file", "file")


FORGED = f"— auditor@example.com {base64.b64encode(bytes(68)).decode()}\n"


def test_nobody_is_said_to_have_signed_whose_signature_was_not_checked(tallybook: CommandLine, tmp_path: Path) -> None:
    """Anybody can write a name below a seal. Without the key, that there is a signature is told once."""
    (public,) = tallybook.lines("seal-key", "seal.pem")
    for _ in range(2):
        tallybook.run("seal", "--seals", "signed", "--key", "seal.pem")
    forged = (tmp_path / "signed").read_text()[:-1] + FORGED + "\n"
    tallybook.write("signed", forged)
    said = tallybook.run("verify", "--seals", "signed").stdout
    assert "signed by" not in said
    assert said.count("signature not checked: give --key") == 1
    said = tallybook.lines("verify", "--seals", "signed", "--key", public)
    assert said[0].endswith(", signed by tallybook")
    assert "not checked" not in "".join(said)
    for words, signers, unchecked in (((), [], [1, 2]), (("--key", public), ["tallybook"], [0, 1])):
        seals = tallybook.answer("verify", "--seals", "signed", *words)["seals"]["seals"]
        assert [one["signed_by"] for one in seals] == [signers, signers]
        assert [one["unchecked_signatures"] for one in seals] == unchecked


def test_proofs_name_only_signers_that_were_checked(tallybook: CommandLine, tmp_path: Path) -> None:
    """Also where the seal in a proof is trusted for being held."""
    seals = tmp_path / "usage.seals"
    seals.write_text(seals.read_text()[:-1] + FORGED + "\n")
    files = tallybook.answer("prove", "req-3", "--seals", "usage.seals")
    said = tallybook.run("check-proof", *files, "--seals", "usage.seals").stdout
    assert ("signed by" in said, said.count("signature not checked")) == (False, 1)
    growth = tallybook.write("growth", tallybook.run("prove-growth", "3", "--seals", "usage.seals").stdout)
    said = tallybook.run("check-growth", growth, "--seals", "usage.seals").stdout
    assert ("signed by" in said, said.count("signature not checked")) == (False, 1)


def test_a_proof_is_written_and_checked_without_the_ledger(tallybook: CommandLine, tmp_path: Path) -> None:
    """Two files, named by the position; nothing is checked without a seal or key to trust."""
    files = tallybook.answer("prove", "req-3", "--seals", "usage.seals")
    assert files == ["position-3.event", "position-3.tlog-proof"]
    (tmp_path / "usage.db").unlink()
    proved = tallybook.answer("check-proof", *files, "--seals", "usage.seals")
    assert (proved["position"], proved["originator_id"], proved["seal"]["size"]) == (3, "event/req-3", 3)
    assert '"tokens":"3"' in tallybook.run("check-proof", *files, "--seals", "usage.seals").stdout
    tallybook.run("check-proof", *files, status=2)
    assert tallybook.refusal("check-proof", files[0], "missing", "--seals", "usage.seals") == ("invalid_proof", "proof")
    tallybook.write("position-3.event", (tmp_path / "position-3.event").read_bytes().replace(b'"3"', b'"4"'))
    assert tallybook.refusal("check-proof", *files, "--seals", "usage.seals") == ("invalid_proof", "event")


def test_two_seals_are_shown_to_be_consistent(tallybook: CommandLine, tmp_path: Path) -> None:
    """By a printed proof, checked by the earlier seal that somebody kept."""
    tallybook.write("kept", (tmp_path / "usage.seals").read_bytes())
    tallybook.run("cancel", "tokens", "req-2")
    tallybook.run("seal", "--seals", "usage.seals")
    proof = tallybook.write("proof", tallybook.run("prove-growth", "3", "--seals", "usage.seals").stdout)
    answer = tallybook.answer("check-growth", proof, "--seals", "kept")
    assert [answer[which]["size"] for which in ("earlier", "later")] == [3, 4]
    assert "unchanged" in tallybook.lines("check-growth", proof, "--seals", "kept")[0]
    tallybook.run("check-growth", proof, status=2)
    assert tallybook.run("prove-growth", "2", "--seals", "usage.seals", status=1).stderr.startswith(
        "tallybook: not_sealed: "
    )


def test_what_is_not_there_is_refused(tallybook: CommandLine) -> None:
    """A ledger, a file of seals, an event, a folder to write to."""
    for words in (("seal", "--seals", "new"), ("verify", "--seals", "usage.seals")):
        assert tallybook.refusal(*words, "--ledger", "sqlite:///missing.db") == ("ledger_unavailable", "url")
    assert tallybook.refusal("verify", "--seals", "missing") == ("invalid_seal_file", "file")
    assert tallybook.refusal("prove", "req-9", "--seals", "usage.seals") == ("invalid_identifier", "identifier")
    assert "--folder" in tallybook.run("prove", "req-3", "--seals", "usage.seals", "--folder", "no", status=2).stderr
