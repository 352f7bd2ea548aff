"""The roster: a table (``patient_id`` and ``site`` or ``institution``) that says whose patient is whose.

It is often typed by somebody else, so names of sites and identifiers of patients are compared folded. A patient at the
site ``(none)`` is known and nobody's; one at an empty cell is as unknown as one without a row.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from client.data.tables.text_table import TextTable, is_missing
from client.identifiers import folded_or_none
from shared_model.errors import TableError

NOBODY = "(none)"
"""In place of a site: the patient is left out on purpose."""
_SITE_COLUMNS = ("site", "institution")


def fold_site(name: str) -> str:
    """Return the form under which two spellings of a site's name are equal: without regard to case and space.

    >>> fold_site(" St.Mary") == fold_site("ST. MARY")
    True
    """
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


class Roster:
    """Rows of patient and site."""

    def __init__(self, path: Path) -> None:
        """Read the table.

        Raises:
            TableError: it cannot be read, or lacks a column.
        """
        self._table = TextTable.load(path)
        self._table.require(["patient_id"])
        column = next((name for name in _SITE_COLUMNS if name in self._table.columns), None)
        if column is None:
            raise TableError(f"Expected a column site or institution in {path}.")
        self._rows = list(zip(self._table.cells["patient_id"], self._table.cells[column], strict=True))

    def homes(self) -> dict[str, set[str]]:
        """Return the folded sites of every patient, by folded identifier; who is at several is nobody's."""
        homes: dict[str, set[str]] = {}
        for patient, site in self._rows:
            if not is_missing(site):
                at = homes.setdefault(patient_key(patient), set())
                at |= set() if site.strip() == NOBODY else {fold_site(site)}
        return homes

    def site_by_patient(self, known_sites: Iterable[str]) -> dict[str, str]:
        """Return the site of every patient as the roster spells the patient, and ``known_sites`` spell the site.

        Raises:
            TableError: a row is too long or short, or a patient has two sites.
        """
        self._table.require_whole()
        names = {fold_site(name): name for name in known_sites}
        roster: dict[str, str] = {}
        homes: dict[str, str] = {}
        for patient, site in self._rows:
            if is_missing(site) or site.strip() == NOBODY:
                continue
            name = names.setdefault(fold_site(site), site.strip())
            roster.setdefault(patient.strip(), name)
            if homes.setdefault(patient_key(patient), name) != name:
                raise TableError(
                    f"Expected one site for every patient in {self._table.source}, got two for one patient."
                )
        return roster


def patient_key(patient: str) -> str:
    """Return the folded identifier, or the text itself where it names nobody."""
    return folded_or_none(patient) or patient.strip()


def at_sites(homes: Mapping[str, set[str]], sites: Iterable[str]) -> set[str]:
    """Return the folded patients who are at one of ``sites`` and nowhere else."""
    folded_sites = set(map(fold_site, sites))
    return {patient for patient, named in homes.items() if len(named) == 1 and named <= folded_sites}
