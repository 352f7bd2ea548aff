"""Which recipe: candidates that differ in one thing each, cross-validated over training patients alone.

The search is not charged to epsilon: whoever tunes on patients of hospitals learns something about them that no ledger
counts. It is documented instead, and can be run again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from shared_model.config.composition import CONFIG_FOLDER
from shared_model.errors import ConfigError
from shared_model.system.files import write_atomically
from simulations.studies.protocols import Cell, Ground, cross_validation
from simulations.studies.tables import Row, to_markdown

CANDIDATES_FILE = CONFIG_FOLDER / "candidates.yaml"
PROMISES = (8.0, 1.0)
"""A recipe must do where noise hardly matters and where it is most of what is sent."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A recipe that is compared with others."""

    name: str
    overrides: tuple[str, ...]
    """Beyond those of the study."""


def read_candidates(path: Path) -> tuple[Candidate, ...]:
    """Read a YAML file of names and lists of overrides; the first candidate is what the others are compared with.

    Raises:
        ConfigError: it cannot be read, or holds anything else.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"Expected candidates in {path}: {' '.join(str(error).split())}.") from error
    is_named = isinstance(found, dict) and bool(found) and all(isinstance(name, str) and name for name in found)
    if not is_named or not all(
        isinstance(overrides, list) and all(isinstance(override, str) for override in overrides)
        for overrides in found.values()
    ):
        raise ConfigError(f"Expected {path} to name candidates, each with a list of overrides.")
    return tuple(Candidate(name=name, overrides=tuple(overrides)) for name, overrides in found.items())


def search_cells(ground: Ground, candidate: Candidate, *, num_folds: int) -> list[Cell]:
    """Cross-validate one candidate at every promise; ``ground`` is that of the candidate."""
    folds = cross_validation(ground, num_folds=num_folds)
    return [
        Cell(
            name=_cell_name(candidate.name, epsilon, fold.name),
            overrides=(*candidate.overrides, f"privacy.target_epsilon={epsilon}", *fold.overrides),
        )
        for epsilon in PROMISES
        for fold in folds
    ]


def _cell_name(candidate: str, epsilon: float, fold: str) -> str:
    return f"{candidate}, epsilon {epsilon:g}, {fold}"


def search_table(
    rows: Sequence[Row], candidates: Sequence[Candidate], num_folds: int
) -> tuple[list[str], list[list[str]]]:
    """Return titles and cells: each candidate's mean AUC over folds and seeds, and what it is better than the first.

    The change is paired by fold and seed; behind it stands its standard error, noise of training included.
    """
    header = ["candidate", *(title for epsilon in PROMISES for title in (f"epsilon {epsilon:g}", "change"))]
    values = {(row.cell, row.seed): _auroc(row) for row in rows}
    seeds = sorted({row.seed for row in rows})

    def of(candidate: Candidate, epsilon: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        names = [_cell_name(candidate.name, epsilon, f"fold {fold}") for fold in range(1, num_folds + 1)]
        return np.array([values[name, seed] for seed in seeds for name in names])

    lines = []
    for candidate in candidates:
        cells = []
        for epsilon in PROMISES:
            mine, first = of(candidate, epsilon), of(candidates[0], epsilon)
            change = mine - first
            error = change.std(ddof=1) / math.sqrt(len(change))
            cells += [
                f"{mine.mean():.3f}",
                "-" if candidate is candidates[0] else f"{change.mean():+.3f} ± {error:.3f}",
            ]
        lines.append([candidate.name, *cells])
    return header, lines


def write_search(folder: Path, title: str, table: tuple[list[str], list[list[str]]], origin: str) -> None:
    """Write ``search.md``, whose last line is ``origin``."""
    note = "Mean AUC over folds and seeds; change against the first, paired by fold and seed, ± standard error.\n"
    write_atomically(folder / "search.md", f"# {title}\n\n{to_markdown(*table)}\n{note}\n{origin}".encode())


def _auroc(row: Row) -> float:
    figure = row.figure("auroc")
    if figure is None or figure.value is None:
        raise ConfigError(f"Expected test lesions of both classes in {row.cell}: choose fewer folds.")
    return figure.value
