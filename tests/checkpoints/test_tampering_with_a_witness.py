"""Ways of tampering that nobody finds without a copy of the checkpoints: with a witness they are found.

The person has all rights on the database, the private key and all files of the operator. The auditor has the public
keys, and asks the witness for the checkpoint that it cosigned last.
"""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tallybook.application import Metering, TallybookError
from tallybook.application.checkpoints.checkpoint_file import CheckpointFile, SignedCheckpoint
from tallybook.application.checkpoints.merkle import is_consistent
from tallybook.application.checkpoints.prove import prove_consistency
from tallybook.application.checkpoints.service import CheckpointService
from tallybook.application.checkpoints.signing_keys import PrivateKey
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.url import resolve_store

from .test_ways_of_tampering import CHANGED, CUT, NOW, Tampered, in_row, put_clock_back, record, replaced
from .test_witness import Witness

OPERATOR, AUDITOR = "operator.checkpoints", "from-the-witness.checkpoints"


class CarefulWitness(Witness):
    """A witness that cosigns a checkpoint only if it adds events to the one before, and publishes the last one."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.last: SignedCheckpoint | None = None
        self._published = folder / AUDITOR

    def ask(self, file: Path) -> bool:
        """Cosign the last checkpoint of a file, if a proof shows that it only adds events. Return whether it does."""
        checkpoints = CheckpointFile(file).read()
        new = checkpoints.all[-1].checkpoint
        if self.last is not None:
            old = self.last.checkpoint
            if checkpoints.with_size(old.size) is None:
                return False
            proof = prove_consistency(checkpoints, old.size, None).hashes
            if not is_consistent(old.size, old.root, new.size, new.root, proof):
                return False
        self.cosign(file)
        self.last = CheckpointFile(file).read().all[-1]
        self._published.write_text(f"{self.last.note}\n")
        return True


class Witnessed(Tampered):
    """A copy of a ledger whose checkpoints are cosigned, for one way of tampering."""

    witness: CarefulWitness

    def finding_with_witness(self, checkpoints: str = OPERATOR) -> str:
        """Return what the auditor finds: in the file of the operator, and against what the witness cosigned last."""
        for file in (checkpoints, AUDITOR):
            with closing(Ledger(resolve_store(self.url))) as ledger:
                service = CheckpointService(ledger, lambda: NOW)
                try:
                    result = service.verify(
                        self.folder / file, key=self.folder / "key.pub", witnesses=[str(self.witness.public)]
                    )
                except TallybookError as error:
                    return f"{error.code}: {error.message}"
                if result.difference is not None:
                    return result.difference.message
        return ""


@pytest.fixture
def tampered(tmp_path: Path) -> Witnessed:
    """A ledger with three cosigned checkpoints, of 4, 8 and 12 events. Nothing was changed in it yet."""
    ledger, witness = Witnessed(tmp_path), CarefulWitness(tmp_path)
    ledger.witness = witness
    key = PrivateKey.generate(tmp_path / "key.pem", "tallybook")
    (tmp_path / "key.pub").write_text(str(key.public_key))
    with Metering.open(ledger.url, clock=lambda: NOW) as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
        for first, last in ((1, 4), (4, 8), (8, 12)):
            record(metering, first, last)
            metering.checkpoints.create(tmp_path / OPERATOR, key=tmp_path / "key.pem")
            assert witness.ask(tmp_path / OPERATOR)
    return ledger


def remake(tampered: Witnessed) -> None:
    """Create all checkpoint files again for the changed ledger, with the private key, and ask the witness."""
    tampered.remake_checkpoints("key.pem")
    assert not tampered.witness.ask(tampered.folder / OPERATOR)


def rewrite(*statements: str) -> Callable[[Witnessed], None]:
    """Return the way of tampering that changes events, and remakes the checkpoints."""

    def tamper(tampered: Witnessed) -> None:
        tampered.run(statements)
        remake(tampered)

    return tamper


def record_again(tampered: Witnessed) -> None:
    """Cut the tail and record other usage with an earlier clock, and remake the checkpoints."""
    put_clock_back(tampered)
    remake(tampered)


def withhold(tampered: Witnessed) -> None:
    """Cut the tail, and the newest checkpoint from the file: it ends with an honest and cosigned one."""
    tampered.run([CUT.format(8)])
    tampered.edit(OPERATOR, lambda text: text[: text.rindex("\n\ntallybook\n") + 2])


def remove_cosignature(tampered: Witnessed) -> None:
    """Show a checkpoint of a changed ledger, below an honest and cosigned one."""
    honest = (tampered.folder / OPERATOR).read_text()
    rewrite(replaced('"tokens":"9"', '"tokens":"90"', "UsageRecorded"))(tampered)
    tampered.edit(OPERATOR, lambda text: honest[: honest.rindex("\n\ntallybook\n") + 2] + text)


def forge_witness(tampered: Witnessed) -> None:
    """Remake the checkpoints, with the cosignature of a witness that the person invented under the same name."""
    rewrite(replaced('"tokens":"9"', '"tokens":"90"', "UsageRecorded"))(tampered)
    Witness(seed=8).cosign(tampered.folder / OPERATOR)


NOT_COSIGNED = "is not cosigned by witness.example/w1"
WAYS: dict[str, tuple[Callable[[Witnessed], None], str]] = {
    "a value, and all checkpoints": (rewrite(replaced('"tokens":"3"', '"tokens":"30"', "UsageRecorded")), NOT_COSIGNED),
    "the first event, and all checkpoints": (rewrite(in_row(1, "state = x'7b7d'")), NOT_COSIGNED),
    "the tail cut, and all checkpoints": (rewrite(CUT.format(10)), NOT_COSIGNED),
    "another history with the clock put back": (record_again, NOT_COSIGNED),
    "the newest checkpoint withheld": (withhold, "positions from 1 to 9"),
    "a checkpoint that the witness hasn't seen": (remove_cosignature, NOT_COSIGNED),
    "another witness of the same name": (forge_witness, NOT_COSIGNED),
}


@pytest.mark.parametrize(("tamper", "found"), WAYS.values(), ids=WAYS)
def test_what_the_holder_of_the_private_key_rewrites_is_found(
    tampered: Witnessed, tamper: Callable[[Witnessed], None], found: str
) -> None:
    """The operator's own files agree with the ledger, with the key alone; the witness doesn't."""
    tamper(tampered)
    assert tampered.finding(OPERATOR) == ""
    assert found in tampered.finding_with_witness()


def test_what_the_witness_cosigned_is_found_changed_without_any_file_of_the_operator(tampered: Witnessed) -> None:
    """Its position is named if the leaf hashes are there, else the range that it is in."""
    tampered.run([replaced('"tokens":"9"', '"tokens":"90"', "UsageRecorded")])
    shutil.copy(tampered.folder / f"{OPERATOR}.leaves", tampered.folder / f"{AUDITOR}.leaves")
    assert CHANGED.format(10) in tampered.finding_with_witness(AUDITOR)


def test_an_unchanged_ledger_and_its_next_checkpoint_are_cosigned(tampered: Witnessed) -> None:
    """What was recorded after the newest checkpoint is protected one period later, from the next one on."""
    assert tampered.finding_with_witness() == ""
    with Metering.open(tampered.url, clock=lambda: NOW) as metering:
        record(metering, 20, 22)
        metering.checkpoints.create(tampered.folder / OPERATOR, key=tampered.folder / "key.pem")
    assert tampered.witness.ask(tampered.folder / OPERATOR)
    tampered.run([CUT.format(13)])
    remake(tampered)
    assert NOT_COSIGNED in tampered.finding_with_witness()
