"""The `checkpoint` commands, and `verify --checkpoints`."""

import base64
from pathlib import Path

import pytest

from .checkpoint_ledger import CHECKPOINTS, ledger_with_checkpoint
from .command_line import CommandLine

SIGNED_FILE = ("--checkpoints", "signed")
FORGED = f"— auditor@example.com {base64.b64encode(bytes(68)).decode()}\n"


@pytest.fixture
def tallybook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Return a ledger of three events with a checkpoint; the commands run in the test's folder."""
    monkeypatch.chdir(tmp_path)
    return ledger_with_checkpoint(tmp_path)


def test_checkpoints_are_created_and_verified(tallybook: CommandLine) -> None:
    """Both commands print text and JSON."""
    result = tallybook.run_json("checkpoint", "create", *CHECKPOINTS)
    assert (result["origin"], result["size"], result["signed_by"]) == ("tallybook", 3, [])
    result = tallybook.run_json("verify", *CHECKPOINTS)
    assert result["totals"]["is_equal"]
    verification = result["checkpoints"]
    assert (verification["events"], verification["checkpointed_events"]) == (3, 3)
    assert (verification["matching_checkpoints"], verification["difference"]) == (2, None)
    assert tallybook.lines("verify", *CHECKPOINTS)[1] == "3 of 3 events are checkpointed, all unchanged"


def test_a_private_key_is_created_once_and_its_public_key_printed_each_time(tallybook: CommandLine) -> None:
    """The public key, given as text or in a file, verifies the signature."""
    create_key = ("checkpoint", "key", "signing.pem", "--name", "example.com/usage")
    (public,) = tallybook.lines(*create_key)
    assert tallybook.lines(*create_key) == [public]
    created = tallybook.run("checkpoint", "create", *SIGNED_FILE, "--key", "signing.pem", "--name", "example.com/usage")
    assert "signed by example.com/usage" in created.stdout
    tallybook.run("verify", *SIGNED_FILE, "--key", public)
    tallybook.run("verify", *SIGNED_FILE, "--key", tallybook.write("public", public))
    assert tallybook.run_error("verify", *CHECKPOINTS, "--key", public) == ("invalid_checkpoint_file", "file")
    (other,) = tallybook.lines("checkpoint", "key", "other.pem")
    assert tallybook.run_error("verify", *SIGNED_FILE, "--key", other) == ("invalid_checkpoint_file", "file")


def test_only_verified_signers_are_listed(tallybook: CommandLine, tmp_path: Path) -> None:
    """Anybody can add a name to a checkpoint. Without the key, one note says that the signature is not verified."""
    (public,) = tallybook.lines("checkpoint", "key", "signing.pem")
    for _ in range(2):
        tallybook.run("checkpoint", "create", *SIGNED_FILE, "--key", "signing.pem")
    forged = (tmp_path / "signed").read_text()[:-1] + FORGED + "\n"
    tallybook.write("signed", forged)
    output = tallybook.run("verify", *SIGNED_FILE).stdout
    assert "signed by" not in output
    assert output.count("signature not verified; use --key") == 1
    output = tallybook.lines("verify", *SIGNED_FILE, "--key", public)
    assert output[0].endswith(", signed by tallybook")
    assert "not verified" not in "".join(output)
    for arguments, signers, unchecked in (((), [], [1, 2]), (("--key", public), ["tallybook"], [0, 1])):
        verification = tallybook.run_json("verify", *SIGNED_FILE, *arguments)["checkpoints"]
        checkpoints = verification["checkpoints"]
        assert [checkpoint["signed_by"] for checkpoint in checkpoints] == [signers, signers]
        assert [checkpoint["unchecked_signatures"] for checkpoint in checkpoints] == unchecked


def test_proofs_name_only_verified_signers(tallybook: CommandLine, tmp_path: Path) -> None:
    """This applies even if the checkpoint of a proof is trusted because the auditor has a copy of it."""
    checkpoint_file = tmp_path / "usage.checkpoints"
    checkpoint_file.write_text(checkpoint_file.read_text()[:-1] + FORGED + "\n")
    files = tallybook.run_json("checkpoint", "prove", "req-3", *CHECKPOINTS)
    output = tallybook.run("checkpoint", "verify-proof", *files, *CHECKPOINTS).stdout
    assert ("signed by" in output, output.count("signature not verified")) == (False, 1)
    proof = tallybook.run("checkpoint", "prove-consistency", "3", *CHECKPOINTS).stdout
    output = tallybook.run("checkpoint", "verify-consistency", tallybook.write("proof", proof), *CHECKPOINTS).stdout
    assert ("signed by" in output, output.count("signature not verified")) == (False, 1)


def test_a_proof_is_created_and_verified_without_the_ledger(tallybook: CommandLine, tmp_path: Path) -> None:
    """A proof is two files, named by the position. Verification needs a trusted checkpoint or key."""
    files = tallybook.run_json("checkpoint", "prove", "req-3", *CHECKPOINTS)
    assert files == ["position-3.event", "position-3.tlog-proof"]
    (tmp_path / "usage.db").unlink()
    verified = tallybook.run_json("checkpoint", "verify-proof", *files, *CHECKPOINTS)
    assert (verified["position"], verified["originator_id"], verified["checkpoint"]["size"]) == (3, "event/req-3", 3)
    assert '"tokens":"3"' in tallybook.run("checkpoint", "verify-proof", *files, *CHECKPOINTS).stdout
    tallybook.run("checkpoint", "verify-proof", *files, status=2)
    error = tallybook.run_error("checkpoint", "verify-proof", files[0], "missing", *CHECKPOINTS)
    assert error == ("invalid_proof", "proof")
    tallybook.write("position-3.event", (tmp_path / "position-3.event").read_bytes().replace(b'"3"', b'"4"'))
    assert tallybook.run_error("checkpoint", "verify-proof", *files, *CHECKPOINTS) == ("invalid_proof", "event")


def test_two_checkpoints_are_proved_consistent(tallybook: CommandLine, tmp_path: Path) -> None:
    """The printed proof is verified against the auditor's copy of the earlier checkpoint."""
    tallybook.write("copy", (tmp_path / "usage.checkpoints").read_bytes())
    tallybook.run("cancel", "tokens", "req-2")
    tallybook.run("checkpoint", "create", *CHECKPOINTS)
    proof = tallybook.write("proof", tallybook.run("checkpoint", "prove-consistency", "3", *CHECKPOINTS).stdout)
    verify = ("checkpoint", "verify-consistency", proof)
    result = tallybook.run_json(*verify, "--checkpoints", "copy")
    assert [result[name]["size"] for name in ("earlier", "later")] == [3, 4]
    assert "unchanged" in tallybook.lines(*verify, "--checkpoints", "copy")[0]
    tallybook.run(*verify, status=2)
    rejected = tallybook.run("checkpoint", "prove-consistency", "2", *CHECKPOINTS, status=1)
    assert rejected.stderr.startswith("tallybook: not_checkpointed: ")


def test_missing_files_are_rejected(tallybook: CommandLine) -> None:
    """The ledger, the checkpoint file, the meter event and the output folder must exist."""
    for arguments in (("checkpoint", "create", "--checkpoints", "new"), ("verify", *CHECKPOINTS)):
        assert tallybook.run_error(*arguments, "--ledger", "sqlite:///missing.db") == ("ledger_unavailable", "url")
    assert tallybook.run_error("verify", "--checkpoints", "missing") == ("invalid_checkpoint_file", "file")
    assert tallybook.run_error("checkpoint", "prove", "req-9", *CHECKPOINTS) == ("invalid_identifier", "identifier")
    stderr = tallybook.run("checkpoint", "prove", "req-3", *CHECKPOINTS, "--folder", "no", status=2).stderr
    assert "--folder" in stderr
