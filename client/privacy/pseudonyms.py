"""Pseudonyms: keyed hashes (HMAC-SHA256) of patients' identifiers, by which a site's ledger knows its patients.

A hash without a key would hide nothing: identifiers are short, and all of them can be tried. The key lies beside the
ledger on the site's disk and never leaves it; a copy of the ledger without the key can be shown to an auditor.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from client.identifiers import fold_identifier
from shared_model.errors import LedgerError
from shared_model.system.files import write_atomically

_KEY_BYTES = 32
PSEUDONYM_BYTES = 16
"""Two of a million patients share a pseudonym with probability 1e-27."""
_MAX_PSEUDONYMS = 2**20
"""Kept in memory, some 200 MB."""


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """A set of patients under their pseudonyms: 16 bytes a patient, since a ledger may hold a hundred of them."""

    packed: bytes = field(repr=False)
    """The pseudonyms, sorted and one after the other. In another order they would have another fingerprint."""
    fingerprint: str = field(init=False)
    """SHA-256 of ``packed``, hexadecimal: equal for the same patients at the same site, only there. Computed here and
    nowhere else, so that a cohort never has another's."""

    def __post_init__(self) -> None:
        if len(self.packed) % PSEUDONYM_BYTES:
            raise ValueError(f"Expected pseudonyms of {PSEUDONYM_BYTES} bytes, got {len(self.packed)} bytes in all.")
        object.__setattr__(self, "fingerprint", hashlib.sha256(self.packed).hexdigest())

    @classmethod
    def from_pseudonyms(cls, members: Iterable[bytes]) -> "Cohort":
        """Return the cohort of ``members``.

        Raises:
            ValueError: they are no pseudonyms.
        """
        return cls(packed=b"".join(sorted(frozenset(members))))

    def __len__(self) -> int:
        """Return the number of patients."""
        return len(self.packed) // PSEUDONYM_BYTES

    @property
    def members(self) -> frozenset[bytes]:
        """A member may be known by several spellings of the identifier: there is one pseudonym for all of them."""
        return _unpacked(self.packed)

    def without(self, pseudonyms: frozenset[bytes]) -> "Cohort":
        """Return the cohort of those who are not among ``pseudonyms``; itself, if nobody is."""
        members = self.members
        return self if members.isdisjoint(pseudonyms) else Cohort.from_pseudonyms(members - pseudonyms)


def unpack(packed: bytes) -> list[bytes]:
    """Return the pseudonyms that stand one after the other in ``packed``."""
    return [packed[start : start + PSEUDONYM_BYTES] for start in range(0, len(packed), PSEUDONYM_BYTES)]


@lru_cache(maxsize=4)
def _unpacked(packed: bytes) -> frozenset[bytes]:
    # A run asks for the same one or two again and again; sets of all would take ten times the memory.
    return frozenset(unpack(packed))


class SiteKey:
    """The secret that turns a patient's identifier into a pseudonym."""

    def __init__(self, secret: bytes) -> None:
        """Use ``secret``.

        Raises:
            LedgerError: it has not 32 bytes.
        """
        if len(secret) != _KEY_BYTES:
            raise LedgerError(f"Expected a site key of length={len(secret)} == {_KEY_BYTES} bytes.")
        self._secret = secret
        self._pseudonyms: dict[str, bytes] = {}

    @classmethod
    def create(cls, path: Path) -> "SiteKey":
        """Write a new key to ``path``, readable by its owner only.

        Raises:
            OSError: the file cannot be written.
        """
        key = cls(os.urandom(_KEY_BYTES))
        write_atomically(path, key._secret)
        return key

    @classmethod
    def load(cls, path: Path) -> "SiteKey":
        """Read the key of ``create``.

        Raises:
            LedgerError: the file is damaged.
            OSError: it cannot be read.
        """
        return cls(path.read_bytes())

    @property
    def check(self) -> str:
        """Hexadecimal; tells whether a ledger belongs to this key, and nothing about the key."""
        return self._keyed(b"ledger", b"").hex()

    def pseudonym(self, patient: str) -> bytes:
        """Return the pseudonym, 16 bytes, of all spellings of an identifier.

        It is computed once in a process: every request asks for those of all patients.

        Raises:
            ValueError: it names nobody; see ``fold_identifier``.
        """
        pseudonym = self._pseudonyms.get(patient)
        if pseudonym is None:
            pseudonym = self._keyed(b"patient", fold_identifier(patient).encode())[:PSEUDONYM_BYTES]
            if len(self._pseudonyms) >= _MAX_PSEUDONYMS:
                self._pseudonyms.clear()
            self._pseudonyms[patient] = pseudonym
        return pseudonym

    def spelling(self, patient: str) -> bytes:
        """Return what tells this spelling of an identifier from others, 16 bytes."""
        return self._keyed(b"spelling", patient.strip().encode("utf-8", "surrogatepass"))[:PSEUDONYM_BYTES]

    def cohort(self, patients: Iterable[str]) -> Cohort:
        """Return the cohort of the patients with these identifiers.

        Raises:
            ValueError: one names nobody.
        """
        return Cohort.from_pseudonyms(map(self.pseudonym, patients))

    def witness(self, digest: str) -> str:
        """Return the keyed digest, hexadecimal, by which an outsider recognises a ledger's head and learns nothing."""
        return self._keyed(b"witness", digest.encode()).hex()

    @property
    def role_secret(self) -> bytes:
        """The secret, 32 bytes, that decides which patients are kept for validation."""
        return self._keyed(b"roles", b"")

    @property
    def identity_secret(self) -> bytes:
        """The secret, 32 bytes, of which the site's identity in secure sums is made."""
        return self._keyed(b"identity", b"")

    def _keyed(self, purpose: bytes, content: bytes) -> bytes:
        return hmac.digest(self._secret, purpose + b"\0" + content, "sha256")
