"""What a person should hear of a table that was read: what was set aside, and what was taken as something else."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress

import pandas as pd

from client.data.tables.lesion_table import LesionTable
from client.data.tables.rejects import kinds, some_names
from client.data.tables.roster import patient_key
from client.data.tables.site_table import NOT_IN_ROSTER
from shared_model.system.peer_text import peer_text

_MAX_KINDS = 3
_KEPT_DIGITS, _FEW = 15, 5
_JPEG = (".jpg", ".jpeg")
_PUNCTUATION, _THOUSANDS = re.compile(r"[\W_]+"), re.compile(r"\d{1,3}(,\d{3})+")
_OTHER = "a network trained on them does not fit the originals"


def notes(table: LesionTable) -> Iterator[str]:
    """Yield a line for everything that somebody would want to correct; none for a table in order."""
    found = kinds(table.rejects["reason"])
    for kind in found[:_MAX_KINDS]:
        yield peer_text(f"rejected: {kind}")
    others = found[_MAX_KINDS:]
    if others:
        yield f"rejected: {sum(kind.num_rows for kind in others)} rows for {len(others)} other reasons"
    is_unlisted = table.rejects["reason"] == NOT_IN_ROSTER
    unlisted = set(map(str, table.rejects.loc[is_unlisted, "patient_id"]))
    if unlisted:
        yield f"{len(unlisted)} patients are not in the roster: {some_names(unlisted)}"
    if len(table.unreadable):
        lines = ", ".join(map(str, kinds(table.unreadable["reason"])[:_MAX_KINDS]))
        yield peer_text(f"{len(table.unreadable)} cells are not understood and count as missing: {lines}")
    yield from _identifier_notes(table)
    num_jpeg = int(_has_jpeg(table).sum())
    if num_jpeg:
        yield f"{num_jpeg} lesions have copies in JPEG: 8 of the film's 16 bits, less what compression lost; {_OTHER}"


def _identifier_notes(table: LesionTable) -> Iterator[str]:
    patients = list(map(str, table.frame["patient_id"].unique()))
    rounded = _rounded(patients)
    if rounded:
        yield (
            f"{len(rounded)} identifiers of more than {_KEPT_DIGITS} digits all end in zeros: a spreadsheet rounded "
            f"them, and one may be several patients; export the column as text: {some_names(rounded)}"
        )
    alike = _alike(patients)
    if alike:
        groups = "; ".join(some_names(group) for group in alike[:_MAX_KINDS]) + ("; ..." if alike[_MAX_KINDS:] else "")
        yield (
            f"{len(alike)} groups of identifiers differ in punctuation or encoding alone ({groups}): if one is one "
            "patient, spell her in one way, since she would have two budgets"
        )
    if table.respelt:
        yield f"{len(table.respelt)} patients are spelt in several ways, each taken as one: {some_names(table.respelt)}"


def _rounded(patients: Iterable[str]) -> list[str]:
    """Return the long numbers among identifiers if all of them end in zeros: a spreadsheet keeps 15 digits.

    A few may do so by chance, one in ten for the first digit that is lost.
    """
    long = [patient for patient in patients if patient.isdecimal() and len(patient) > _KEPT_DIGITS]
    are_zero = all(not patient[_KEPT_DIGITS:].strip("0") for patient in long)
    return long if are_zero and len(long) >= _FEW else []


def _alike(patients: Iterable[str]) -> list[list[str]]:
    """Return the identifiers that are equal but for what stands round and between letters and numbers, or encoding."""
    groups: dict[str, list[str]] = {}
    for patient in patients:
        text = patient.replace(",", "") if _THOUSANDS.fullmatch(patient) else patient
        with suppress(UnicodeError):
            # UTF-8 that a program took for Windows-1252.
            text = text.encode("cp1252").decode()
        groups.setdefault(_PUNCTUATION.sub("-", patient_key(text)).strip("-"), []).append(patient)
    return [group for group in groups.values() if len(group) > 1]


def _has_jpeg(table: LesionTable) -> "pd.Series[bool]":
    films = table.frame["film_path"].fillna("").str.lower().str.endswith(_JPEG)
    lesions = table.frame["lesion_paths"].map(lambda paths: any(path.lower().endswith(_JPEG) for path in paths))
    return films.astype(bool) | lesions.astype(bool)
