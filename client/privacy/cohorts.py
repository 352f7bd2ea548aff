"""Who belongs to every cohort of a ledger, by the cohort's fingerprint.

A cohort's members are hashed when the cohort is made, from the disk or from patients, and never again: what is in
memory can only be what was hashed.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property

from client.privacy.pseudonyms import Cohort, unpack
from shared_model.errors import LedgerError


class Cohorts(Mapping[str, frozenset[bytes]]):
    """Pseudonyms by cohort; a set of them is made when it is asked for."""

    def __init__(self, cohorts: Mapping[str, Cohort]) -> None:
        """Take cohorts by the fingerprints under which they were recorded.

        Raises:
            LedgerError: a cohort has another fingerprint: its members are not those who were recorded.
        """
        for name, cohort in cohorts.items():
            if cohort.fingerprint != name:
                raise unlike_recorded(name)
        self._cohorts = dict(cohorts)

    def __getitem__(self, name: str) -> frozenset[bytes]:
        """Return the members of a cohort."""
        return self._cohorts[name].members

    def __iter__(self) -> Iterator[str]:
        """Yield the fingerprints, in the order in which cohorts came."""
        return iter(self._cohorts)

    def __len__(self) -> int:
        """Return the number of cohorts."""
        return len(self._cohorts)

    def __contains__(self, name: object) -> bool:
        """Return whether there is a cohort of this fingerprint; its members are not looked at."""
        return name in self._cohorts

    def cohort(self, name: str) -> Cohort:
        """Return the cohort of this fingerprint."""
        return self._cohorts[name]

    def with_added(self, cohort: Cohort) -> "Cohorts":
        """Return these and one more."""
        return Cohorts({**self._cohorts, cohort.fingerprint: cohort})

    @cached_property
    def _memberships(self) -> dict[bytes, int]:
        """By patient the cohorts that she belongs to, the first as bit 0."""
        found: dict[bytes, int] = {}
        for position, cohort in enumerate(self._cohorts.values()):
            bit = 1 << position
            for member in unpack(cohort.packed):
                found[member] = found.get(member, 0) | bit
        return found

    @property
    def everybody(self) -> frozenset[bytes]:
        """The patients of all cohorts."""
        return frozenset(self._memberships)

    def alike(self, members: frozenset[bytes]) -> dict[frozenset[str], frozenset[bytes]]:
        """Return ``members`` by the exact set of cohorts that a patient belongs to; strangers belong to none."""
        by_bits: dict[int, set[bytes]] = {}
        memberships = self._memberships
        for member in members:
            by_bits.setdefault(memberships.get(member, 0), set()).add(member)
        return {self._names(bits): frozenset(same) for bits, same in by_bits.items()}

    def overlapping(self, members: frozenset[bytes]) -> frozenset[str]:
        """Return the cohorts that share at least one patient with ``members``."""
        return frozenset[str]().union(*self.alike(members))

    def _names(self, bits: int) -> frozenset[str]:
        return frozenset(name for position, name in enumerate(self._cohorts) if bits >> position & 1)


def unlike_recorded(name: str) -> LedgerError:
    """Return the error of a cohort whose members are not those who were recorded."""
    return LedgerError(f"Expected the patients of cohort {name[:12]} as they were recorded.")
