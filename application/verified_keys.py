"""Access keys that were verified before, remembered for as long as nothing has happened to them."""

import threading
from hashlib import sha256
from typing import NamedTuple

from .access_views import AccessKeyView
from .ledger import Ledger

MOST = 10_000
"""How many keys are remembered at most."""


class _Verified(NamedTuple):
    view: AccessKeyView
    version: int


class VerifiedKeys:
    """Keys by the SHA-256 of their text, so that a request needn't read and hash its key anew, nor memory hold it."""

    def __init__(self, ledger: Ledger, most: int = MOST) -> None:
        self.ledger = ledger
        self.most = most
        self._verified: dict[bytes, _Verified] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._verified)

    def get(self, text: str) -> AccessKeyView | None:
        """The key that is written `text`, if it was verified and is in the ledger as it was then.

        The ledger is asked each time: whoever revoked the key meanwhile may be another program.
        """
        found = self._verified.get(_mark(text))
        if found is None or self.ledger.access_key_version(found.view.id) != found.version:
            return None
        return found.view

    def keep(self, text: str, view: AccessKeyView, version: int) -> None:
        """Remember a key that was verified at a version of its stream; forget another one where there is no room."""
        mark = _mark(text)
        with self._lock:
            self._verified.pop(mark, None)
            if len(self._verified) >= self.most:
                del self._verified[next(iter(self._verified))]
            self._verified[mark] = _Verified(view, version)


def _mark(text: str) -> bytes:
    return sha256(text.encode()).digest()
