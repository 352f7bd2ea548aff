"""Search for a training recipe: candidates that differ in one thing each, cross-validated over training patients alone.

The search is not charged to epsilon: a choice made on the patients of hospitals tells something about them that no
ledger counts. It is documented instead, and can be run again.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from shared_model.config.composition import CONFIG_FOLDER
from shared_model.errors import ConfigError
from shared_model.system.files import write_atomically
from simulations.studies.protocols import StudyData, StudyRun, cross_validation
from simulations.studies.results import Row
from simulations.studies.text_tables import MISSING, TextTable

CANDIDATES_FILE = CONFIG_FOLDER / "candidates.yaml"
TARGET_EPSILONS = (8.0, 1.0)
"""A recipe must do where noise hardly matters, and where most of an update is noise."""


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
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"Expected candidates in {path}: {' '.join(str(error).split())}.") from error
    is_named = isinstance(content, dict) and bool(content) and all(isinstance(name, str) and name for name in content)
    if not is_named or not all(
        isinstance(overrides, list) and all(isinstance(override, str) for override in overrides)
        for overrides in content.values()
    ):
        raise ConfigError(f"Expected {path} to name candidates, each with a list of overrides.")
    return tuple(Candidate(name=name, overrides=tuple(overrides)) for name, overrides in content.items())


def search_runs(data: StudyData, candidate: Candidate, *, num_folds: int) -> list[StudyRun]:
    """Cross-validate one candidate at every target epsilon; ``data`` are prepared with the candidate's overrides."""
    folds = cross_validation(data, num_folds=num_folds)
    return [
        StudyRun(
            name=_run_name(candidate.name, epsilon, fold.name),
            overrides=(*candidate.overrides, f"privacy.target_epsilon={epsilon}", *fold.overrides),
        )
        for epsilon in TARGET_EPSILONS
        for fold in folds
    ]


def _run_name(candidate: str, epsilon: float, fold: str) -> str:
    return f"{candidate}, epsilon {epsilon:g}, {fold}"


def search_table(rows: Sequence[Row], candidates: Sequence[Candidate], num_folds: int) -> TextTable:
    """Return a line for each candidate: its mean AUC over folds and seeds, and the change against the first candidate.

    The change is paired by fold and seed; its standard error includes the noise of training.

    Raises:
        ConfigError: a fold has test lesions of one class only.
    """
    header = ["candidate", *(title for epsilon in TARGET_EPSILONS for title in (f"epsilon {epsilon:g}", "change"))]
    aurocs = {(row.run, row.seed): _auroc(row) for row in rows}
    seeds = sorted({row.seed for row in rows})

    def aurocs_of(candidate: Candidate, epsilon: float) -> NDArray[np.float64]:
        names = [_run_name(candidate.name, epsilon, f"fold {fold}") for fold in range(1, num_folds + 1)]
        return np.array([aurocs[name, seed] for seed in seeds for name in names])

    lines = []
    for candidate in candidates:
        cells = []
        for epsilon in TARGET_EPSILONS:
            values = aurocs_of(candidate, epsilon)
            change = values - aurocs_of(candidates[0], epsilon)
            error = change.std(ddof=1) / math.sqrt(len(change))
            cells += [
                f"{values.mean():.3f}",
                MISSING if candidate is candidates[0] else f"{change.mean():+.3f} ± {error:.3f}",
            ]
        lines.append([candidate.name, *cells])
    return TextTable(header=header, lines=lines)


def write_search(folder: Path, title: str, table: TextTable, provenance: str) -> None:
    """Write ``search.md``, whose last line is ``provenance``."""
    note = "Mean AUC over folds and seeds; change against the first, paired by fold and seed, ± standard error.\n"
    write_atomically(folder / "search.md", f"# {title}\n\n{table.to_markdown()}\n{note}\n{provenance}".encode())


def _auroc(row: Row) -> float:
    auroc = row.estimate("auroc")
    if auroc is None or auroc.value is None:
        raise ConfigError(f"Expected test lesions of both classes in {row.run}: choose fewer folds.")
    return auroc.value
