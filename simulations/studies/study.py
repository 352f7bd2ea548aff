"""Studies: several runs that answer one question, and a table of them.

Every run of a study is an ordinary one with a folder of its own. A study that was interrupted goes on where it stopped:
runs with results are not repeated, one that was cut off goes on from its last round.
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
from simulations.studies.display import StudyDisplay
from simulations.studies.jobs import Job
from simulations.studies.plots import epsilon_study, write_site_plot
from simulations.studies.privacy_utility import UTILITY, utility_runs
from simulations.studies.protocols import NO_PRIVACY, PROTOCOLS, StudyData, StudyRun, cross_validation
from simulations.studies.purposes import CROSS_VALIDATION, SEARCH, Part
from simulations.studies.recipe_search import Candidate, search_runs, search_table, write_search
from simulations.studies.results import Row, read_rows, summarise
from simulations.studies.runner import run_jobs
from simulations.studies.tables import brief_table, provenance, summary_table, write_tables
from simulations.studies.tabular_baseline import tabular_baselines
from simulations.studies.text_tables import print_table

_STUDY_FILE = "study_overrides.json"


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is run: a protocol, for every seed, with overrides that all runs share."""

    protocol: str
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    folder: Path
    num_folds: int = 0
    """Of cross-validation and search."""
    candidates: tuple[Candidate, ...] = ()
    """Of a search."""
    parts: tuple[Part, ...] = tuple(Part)
    """Of the privacy-utility study."""

    def open_folder(self) -> None:
        """Make the folder, or find the same study in it.

        Raises:
            ConfigError: it holds another study, or cannot be written.
        """
        request = {
            "protocol": self.protocol,
            "overrides": list(self.overrides),
            "num_folds": self.num_folds,
            "candidates": {candidate.name: list(candidate.overrides) for candidate in self.candidates},
            "parts": list(self.parts),
        }
        path = self.folder / _STUDY_FILE
        try:
            if path.exists() and json.loads(path.read_bytes()) != request:
                raise ConfigError(f"Expected the same study as before in {self.folder}; name another with --out.")
            write_atomically(path, json.dumps(request, indent=2).encode())
        except (OSError, ValueError) as error:
            raise ConfigError(f"Expected {self.folder} to be a folder that can be written: {error}.") from error

    def prepare_data(self, seed: int, more_overrides: Sequence[str] = ()) -> StudyData:
        """Prepare the data of one seed.

        Args:
            seed: of the runs.
            more_overrides: of some runs, which change what is prepared.
        """
        folder = self.folder / f"seed-{seed}" / "data"
        config = compose([*self.overrides, *more_overrides, f"seed={seed}", override("run.dir", str(folder))])
        return StudyData.from_prepared(prepare(config, on_progress=lambda *_: None))

    def runs(self, data: StudyData) -> list[StudyRun]:
        """Return the runs of one seed."""
        if self.protocol == CROSS_VALIDATION:
            return cross_validation(data, num_folds=self.num_folds)
        if self.protocol == SEARCH:
            return [run for candidate in self.candidates for run in self._search_runs(candidate, data.config.seed)]
        return utility_runs(data, self.parts) if self.protocol == UTILITY else PROTOCOLS[self.protocol](data)

    def _search_runs(self, candidate: Candidate, seed: int) -> list[StudyRun]:
        # Folds are files of what the network reads, which a candidate may change.
        return search_runs(self.prepare_data(seed, candidate.overrides), candidate, num_folds=self.num_folds)

    def run_folder(self, run: str, seed: int) -> Path:
        """Return the folder of the run of this name."""
        return self.folder / f"seed-{seed}" / run.replace(",", "").replace(" ", "-")

    def jobs(self, data: StudyData, seed: int) -> list[Job]:
        """Return the runs of one seed, ready to start."""
        return [Job(name=run.name, config=self.config(run, seed)) for run in self.runs(data)]

    def config(self, run: StudyRun, seed: int) -> ExperimentConfig:
        """Return the configuration of one run."""
        folder = self.run_folder(run.name, seed)
        kept = self.overrides
        if NO_PRIVACY in run.overrides:
            # Overrides of the private runs' privacy do not fit one without privacy.
            kept = tuple(override for override in kept if not override.startswith(("privacy.", "privacy=")))
        return compose([*kept, f"seed={seed}", *run.overrides, override("run.dir", str(folder))])


def run_study(study: Study, console: Console, *, num_workers: int) -> list[Row]:
    """Run what is missing and return a row for every run and seed.

    Raises:
        FederatedMammographyError: as a run.
    """
    study.open_folder()
    with StudyDisplay(console) as display:
        data = {seed: study.prepare_data(seed) for seed in study.seeds}
        jobs = {seed: study.jobs(data_of_seed, seed) for seed, data_of_seed in data.items()}
        all_jobs = list(itertools.chain.from_iterable(jobs.values()))
        display.begin(len(all_jobs))
        run_jobs(all_jobs, num_workers=num_workers, on_start=display.on_start, on_done=display.on_done)
    rows: list[Row] = []
    for seed, data_of_seed in data.items():
        rows += read_rows(jobs[seed])
        if study.protocol == "baselines":
            rows += _tabular_rows(data_of_seed, seed)
    return rows


def _tabular_rows(data: StudyData, seed: int) -> list[Row]:
    """Return the rows of the baselines that need no network."""
    path = Path(str(data.config.evaluation.holdout))
    holdout = Lesions.load(path)
    test = Predictions.from_lesions(holdout, np.zeros(len(holdout)), read_attributes(path, len(holdout)))
    baselines = tabular_baselines(data.prepared, holdout, test)
    return [
        Row(
            run=name,
            seed=seed,
            epsilon=None,
            evidence=evidence,
            against_first=None,
            site_auroc=None,
            source=source_fingerprint(),
        )
        for name, evidence in baselines.items()
    ]


def report(study: Study, rows: Sequence[Row], console: Console) -> None:
    """Print and write the tables, and draw what can be drawn."""
    title = f"{study.protocol}: {' '.join(study.overrides) or 'defaults'}"
    if study.protocol == SEARCH:
        table = search_table(rows, study.candidates, study.num_folds)
        write_search(study.folder, title, table, provenance(rows))
        print_table(console, title, table)
        console.print(f"Table in {study.folder}", highlight=False, soft_wrap=True)
        return
    together = f"all {study.num_folds} folds" if study.protocol == CROSS_VALIDATION else None
    summaries = summarise(rows, together=together)
    sites = compose([*study.overrides, "run.dir=unused"]).federation.sites
    print_table(console, title, summary_table(summaries))
    if len(study.seeds) == 1:
        print_table(console, "Every run, with 95 % intervals over patients", brief_table(rows))
    write_tables(study.folder, title, rows, summaries, sites)
    if study.protocol == "epsilon":
        _report_epsilon_study(study, rows)
    if study.protocol == "cross-site":
        write_site_plot(study.folder / "cross_site.png", rows, sites)
    console.print(f"Tables in {study.folder}", highlight=False, soft_wrap=True)


def _report_epsilon_study(study: Study, rows: Sequence[Row]) -> None:
    """Draw the AUC over epsilon, and show it in the report of every run of the study."""
    points = epsilon_study(rows)
    save_png(draw_epsilon_study(points), study.folder / "epsilon.png")
    for row in rows:
        folder = study.run_folder(row.run, row.seed)
        write_epsilon_study(points, folder)
        write_report(folder)
