"""Evidence packs of a ledger, and the program that checks them."""

import hashlib
import shutil
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

from tallybook.application import Metering
from tallybook.application.evidence.program_text import check_program

from ..notation import Clock, Ledger, moment

START, END = moment("2026-11-01T00:00"), moment("2026-12-01T00:00")
LIST = "SHA256SUMS"
HISTORY = """
    meter   tokens  sum by region? where kind!=test times 1/3 rounded up 0.01
    meter   seats   sum per hour
    meter   users   unique_count
    meter   billed  sum from tokens where region=eu  value=tokens
    10:05   acme seats 10    id=a
    10:45   acme seats 4     id=b
    11:05   acme seats 9     id=c
    10:06   acme tokens 25   id=d  region=eu
    10:07   acme tokens 17.5 id=e  kind=test
    10:08   acme tokens -3   id=f
    10:09   acme users u'1   id=g
    10:10   acme users +u2   id=h
    10:11   zeta tokens 1000 id=i
    close   acme seats 10 11  at=2026-11-11T02:00
    cancel  b  reason=<sent-twice>  by=ops@acme
    cancel  c  reason=wrong  by=ops@acme
    settle  acme seats 10 11  document=CN-1  by=finance
    revoke  b  reason=mistake  by=ops@acme
    reopen  acme seats 10 11  reason=error  by=finance  withdraw=yes
    close   acme seats 10 11
    revoke  c  reason=mistake
    settle  acme seats 10 11  document=CN-2  by=finance
    13:05   acme seats 6     id=j
    change  tokens  sum by region?  reason=new-contract
"""
"""A customer with every kind of event: superseded, cancelled, filtered, restored; and a period closed twice."""


def write_history(url: str) -> None:
    """Record the history in a new ledger."""
    clock = Clock(moment("2026-11-10T10:00"))
    with Metering.open(url, clock=clock) as metering:
        Ledger(metering, clock).given(HISTORY)


def load_program() -> Any:
    """Return the program check.py as a module, to run it many times in one process."""
    program = ModuleType("check")
    exec(compile(check_program(), "check.py", "exec"), program.__dict__)
    return program


class PackFolder:
    """The files of a pack in a folder, to change and to check."""

    def __init__(self, program: Any, folder: Path) -> None:
        self.program = program
        self.folder = folder

    @classmethod
    def extract(cls, program: Any, pack: Path, folder: Path) -> "PackFolder":
        """Extract a pack to a new folder."""
        with zipfile.ZipFile(pack) as archive:
            archive.extractall(folder)
        return cls(program, folder)

    def copy(self, folder: Path) -> "PackFolder":
        """Return a copy in another folder."""
        shutil.copytree(self.folder, folder)
        return PackFolder(self.program, folder)

    @property
    def names(self) -> list[str]:
        """The names of all files."""
        return sorted(file.name for file in self.folder.iterdir())

    def read(self, name: str) -> bytes:
        """Return a file."""
        return (self.folder / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Write a file."""
        (self.folder / name).write_bytes(data)

    def list_again(self) -> None:
        """Write the list of the files again, as an intruder does who has changed one."""
        listed = [name for name in self.names if not name.startswith(LIST)]
        lines = [f"{hashlib.sha256(self.read(name)).hexdigest()}  {name}\n" for name in listed]
        self.write(LIST, "".join(lines).encode())

    def check(self, key: str = "", checkpoints: str = "") -> str:
        """Return what the program prints, or the problem that it finds."""
        try:
            return "\n".join(self.program.check(self.program.Pack(self.folder), key, checkpoints))
        except self.program.Wrong as error:
            return f"WRONG {error}"
