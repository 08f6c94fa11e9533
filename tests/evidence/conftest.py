"""Fixtures: a ledger with a signed checkpoint, and its evidence pack. They are written once for a file of tests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import EvidencePack, Metering
from tallybook.application.checkpoints.signing_keys import PrivateKey

from .packs import END, START, PackFolder, load_program, write_history


@dataclass(frozen=True)
class SignedLedger:
    """A ledger, its checkpoints, and the keys that signed them."""

    folder: Path
    public_key: str

    @property
    def url(self) -> str:
        """The URL of the ledger."""
        return f"sqlite:///{self.folder}/usage.db"

    @property
    def checkpoints(self) -> Path:
        """The checkpoint file."""
        return self.folder / "usage.checkpoints"

    @property
    def key(self) -> Path:
        """The file of the private key."""
        return self.folder / "key.pem"

    def write_pack(self, name: str, customer: str = "acme", **arguments: Any) -> EvidencePack:
        """Write a pack of November."""
        given: dict[str, Any] = {"checkpoints": self.checkpoints, "key": self.key, **arguments}
        with Metering.open(self.url) as metering:
            return metering.evidence.write(self.folder / name, customer, START, END, **given)


@pytest.fixture(scope="module")
def signed_ledger(tmp_path_factory: pytest.TempPathFactory) -> SignedLedger:
    """Return a ledger with the history of the packs, and a signed checkpoint of all of it."""
    folder = tmp_path_factory.mktemp("ledger")
    key = PrivateKey.generate(folder / "key.pem", "tallybook")
    ledger = SignedLedger(folder, str(key.public_key))
    write_history(ledger.url)
    with Metering.open(ledger.url) as metering:
        metering.checkpoints.create(ledger.checkpoints, key=ledger.key)
    return ledger


@pytest.fixture(scope="module")
def program() -> Any:
    """Return the program check.py as a module."""
    return load_program()


@pytest.fixture(scope="module")
def signed_pack(signed_ledger: SignedLedger, program: Any, tmp_path_factory: pytest.TempPathFactory) -> PackFolder:
    """Return an extracted pack whose list is signed. Don't change it."""
    signed_ledger.write_pack("signed.zip")
    return PackFolder.extract(program, signed_ledger.folder / "signed.zip", tmp_path_factory.mktemp("signed"))


@pytest.fixture(scope="module")
def unsigned_pack(signed_ledger: SignedLedger, program: Any, tmp_path_factory: pytest.TempPathFactory) -> PackFolder:
    """Return an extracted pack of a signed checkpoint, whose list is not signed. Don't change it."""
    signed_ledger.write_pack("unsigned.zip", key=None, public_key=signed_ledger.public_key)
    return PackFolder.extract(program, signed_ledger.folder / "unsigned.zip", tmp_path_factory.mktemp("unsigned"))
