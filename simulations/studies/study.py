"""Studies: several runs that answer one question, and a table of them.

Every cell of a study is an ordinary run with a folder of its own. A study that was interrupted goes on where it
stopped: cells with results are not run again, one that was cut off goes on from its last round.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from server.evaluation.predictions import Predictions, read_attributes
from server.report.epsilon_study import draw_epsilon_study, write_epsilon_study
from server.report.html_report import write_report
from server.report.plot_style import save_png
from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import source_fingerprint
from shared_model.config.overrides import override
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError
from shared_model.system.files import write_atomically
from simulations.federation.prepare import prepare
from simulations.studies.privacy_utility import UTILITY, utility_cells
from simulations.studies.protocols import NO_PRIVACY, PROTOCOLS, Cell, Ground, cross_validation
from simulations.studies.purposes import CROSS_VALIDATION, SEARCH
from simulations.studies.recipe_search import (
    Candidate,
    search_cells,
    search_table,
    write_search,
)
from simulations.studies.runner import CellDisplay, Job, read_rows, run_cells
from simulations.studies.tables import (
    Row,
    brief_cells,
    print_table,
    provenance,
    summarise,
    summary_cells,
    sweep_of,
    write_site_figure,
    write_tables,
)
from simulations.studies.tabular_baseline import tabular_baselines

_STUDY_FILE = "study_overrides.json"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What was asked for."""

    protocol: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    folder: Path
    num_folds: int = 0
    """Of cross-validation and search."""
    candidates: tuple[Candidate, ...] = ()
    """Of a search."""

    def begin(self) -> None:
        """Make the folder, or find the same study in it.

        Raises:
            ConfigError: it holds another study, or cannot be written.
        """
        asked = {
            "protocol": self.protocol,
            "overrides": list(self.overrides),
            "num_folds": self.num_folds,
            "candidates": {candidate.name: list(candidate.overrides) for candidate in self.candidates},
        }
        path = self.folder / _STUDY_FILE
        try:
            if path.exists() and json.loads(path.read_bytes()) != asked:
                raise ConfigError(f"Expected the same study as before in {self.folder}; name another with --out.")
            write_atomically(path, json.dumps(asked, indent=2).encode())
        except (OSError, ValueError) as error:
            raise ConfigError(f"Expected {self.folder} to be a folder that can be written: {error}.") from error

    def ground(self, seed: int, more: Sequence[str] = ()) -> Ground:
        """Prepare the data of one seed, with ``more`` overrides."""
        folder = self.folder / f"seed-{seed}" / "data"
        config = compose([*self.overrides, *more, f"seed={seed}", override("run.dir", str(folder))])
        return Ground.of(prepare(config, on_progress=lambda *_: None))

    def cells(self, ground: Ground) -> list[Cell]:
        """Return the runs of one seed."""
        if self.protocol == CROSS_VALIDATION:
            return cross_validation(ground, num_folds=self.num_folds)
        if self.protocol == SEARCH:
            # Folds are files of what the network reads, which a candidate may change.
            grounds = {candidate: self.ground(ground.config.seed, candidate.overrides) for candidate in self.candidates}
            return [
                cell
                for candidate, of_candidate in grounds.items()
                for cell in search_cells(of_candidate, candidate, num_folds=self.num_folds)
            ]
        return utility_cells(ground) if self.protocol == UTILITY else PROTOCOLS[self.protocol](ground)

    def run_folder(self, cell: str, seed: int) -> Path:
        """Return where the run of one cell lies."""
        return self.folder / f"seed-{seed}" / cell.replace(",", "").replace(" ", "-")

    def jobs(self, ground: Ground, seed: int) -> list[Job]:
        """Return the runs of one seed, ready to start."""
        return [Job(name=cell.name, config=self.config(cell, seed)) for cell in self.cells(ground)]

    def config(self, cell: Cell, seed: int) -> ExperimentConfig:
        """Return the configuration of one run."""
        folder = self.run_folder(cell.name, seed)
        kept = self.overrides
        if NO_PRIVACY in cell.overrides:
            # What was asked of the private runs has no place in one without privacy.
            kept = tuple(override for override in kept if not override.startswith(("privacy.", "privacy=")))
        return compose([*kept, f"seed={seed}", *cell.overrides, override("run.dir", str(folder))])


def run_study(study: Study, console: Console, *, num_workers: int) -> list[Row]:
    """Run what is missing and return a row for every cell and seed.

    Raises:
        FederatedMammographyError: as a run.
    """
    study.begin()
    with CellDisplay(console) as display:
        grounds = {seed: study.ground(seed) for seed in study.seeds}
        jobs = {seed: study.jobs(ground, seed) for seed, ground in grounds.items()}
        cells = list(itertools.chain.from_iterable(jobs.values()))
        display.begin(len(cells))
        run_cells(cells, num_workers=num_workers, on_start=display.on_start, on_done=display.on_done)
    rows: list[Row] = []
    for seed, ground in grounds.items():
        rows += read_rows(jobs[seed])
        if study.protocol == "baselines":
            rows += _tabular(ground, seed)
    return rows


def _tabular(ground: Ground, seed: int) -> list[Row]:
    path = Path(str(ground.config.evaluation.holdout))
    holdout = Lesions.load(path)
    test = Predictions.from_lesions(holdout, np.zeros(len(holdout)), read_attributes(path, len(holdout)))
    found = tabular_baselines(ground.prepared, holdout, test)
    return [
        Row(cell=name, seed=seed, epsilon=None, evidence=evidence, against_first=None, source=source_fingerprint())
        for name, evidence in found.items()
    ]


def report(study: Study, rows: Sequence[Row], console: Console) -> None:
    """Print and write the tables, and draw what can be drawn."""
    title = f"{study.protocol}: {' '.join(study.overrides) or 'defaults'}"
    if study.protocol == SEARCH:
        table = search_table(rows, study.candidates, study.num_folds)
        write_search(study.folder, title, table, provenance(rows))
        print_table(console, title, *table)
        console.print(f"Table in {study.folder}", highlight=False, soft_wrap=True)
        return
    together = f"all {study.num_folds} folds" if study.protocol == CROSS_VALIDATION else None
    summaries = summarise(rows, together=together)
    sites = compose([*study.overrides, "run.dir=unused"]).federation.sites
    print_table(console, title, *summary_cells(summaries))
    if len(study.seeds) == 1:
        print_table(console, "Every run, with 95 % intervals over patients", *brief_cells(rows))
    write_tables(study.folder, title, rows, summaries, sites)
    if study.protocol == "epsilon":
        _report_sweep(study, rows)
    if study.protocol == "cross-site":
        write_site_figure(study.folder / "cross_site.png", rows, sites)
    console.print(f"Tables in {study.folder}", highlight=False, soft_wrap=True)


def _report_sweep(study: Study, rows: Sequence[Row]) -> None:
    """Draw the sweep, and show it in the report of every run of it."""
    sweep = sweep_of(rows)
    save_png(draw_epsilon_study(sweep), study.folder / "epsilon.png")
    for row in rows:
        folder = study.run_folder(row.cell, row.seed)
        write_epsilon_study(sweep, folder)
        write_report(folder)
