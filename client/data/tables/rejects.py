"""Rows that were set aside: how many of every kind, where they are written, and how many are too many."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from client.data.tables.lesion_schema import TEXT
from shared_model.errors import RejectLimitError
from shared_model.system.files import write_atomically
from shared_model.system.peer_text import peer_text
from shared_model.system.spreadsheets import harmless_csv

REJECT_COLUMNS = ("source", "row", "patient_id", "lesion_id", "reason")
_MAX_NAMES = 5
_WHERE = re.compile(r"^[^'\"]*?/.*?: ")
_VALUE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\d+(?:\.\d+)*")
RejectCells = tuple[str, int, str, str, str]
"""The cells of a rejected row, in the order of ``REJECT_COLUMNS``."""


@dataclass(frozen=True, kw_only=True)
class KindOfReject:
    """Rows that were set aside for the same kind of reason."""

    num_rows: int
    example: str
    """The reason of the first of them, with its own value."""

    def __str__(self) -> str:
        return f"{self.num_rows} x {self.example}"


def reject_frame(rows: Iterable[RejectCells]) -> pd.DataFrame:
    """Return rejected rows with ``REJECT_COLUMNS``, by source and row."""
    frame = pd.DataFrame(sorted(rows), columns=list(REJECT_COLUMNS))
    return frame.astype({name: "int64" if name == "row" else TEXT for name in REJECT_COLUMNS})


def kind_of(reason: str) -> str:
    """Return a reason without path, values and numbers."""
    return _VALUE.sub("…", _WHERE.sub("", reason))


def kinds(reasons: Iterable[str]) -> list[KindOfReject]:
    """Return the kinds of reasons, the most common first: reasons that differ in path, value or number are one kind.

    >>> kinds(["Expected age='7' in [18, 100].", "no image file", "Expected age='9' in [18, 100]."])[0].num_rows
    2
    """
    counts, examples = Counter[str](), dict[str, str]()
    for reason in reasons:
        kind = kind_of(reason)
        counts[kind] += 1
        examples.setdefault(kind, reason)
    return [KindOfReject(num_rows=count, example=examples[kind]) for kind, count in counts.most_common()]


def write_rejects(frames: Sequence[pd.DataFrame], path: Path) -> None:
    """Write rows that were set aside as CSV, in the order given; ``path`` holds all of them or is left as it was.

    The file names patients, so only its owner may read it.
    """
    rows = (row for frame in frames for row in frame.itertuples(index=False, name=None))
    write_atomically(path, harmless_csv(REJECT_COLUMNS, rows))


def some_names(patients: Iterable[str]) -> str:
    """Return a few of the distinct patients by name, in one line that a terminal can show.

    >>> some_names(["P_2", "P_1", "P_2"])
    'P_1, P_2'
    """
    names = sorted(set(patients))
    return ", ".join(peer_text(name, 40) for name in names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")


def require_few(rejects: pd.DataFrame, *, num_rows: int, max_fraction: float) -> None:
    """Check that not too many of ``num_rows`` rows were rejected.

    Raises:
        RejectLimitError: more than ``max_fraction`` of them were.
    """
    fraction = len(rejects) / max(1, num_rows)
    if fraction <= max_fraction:
        return
    most = kinds(rejects["reason"])[0]
    kind = kind_of(most.example)
    names = some_names(rejects.loc[rejects["reason"].map(kind_of) == kind, "patient_id"])
    raise RejectLimitError(
        f"Expected rejected rows {len(rejects)} of {num_rows} = {fraction:.3g} <= max_fraction={max_fraction}; "
        f"most common reason ({most.num_rows} rows, patients {names}): {most.example}"
    )
