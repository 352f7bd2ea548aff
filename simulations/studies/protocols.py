"""What a study runs: every cell is an ordinary simulated run, named, with overrides of its own.

Test lesions, rosters and folds are files that the cells' configurations name, so that a cell can be run again by hand.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from client.data.tables.site_table import read_roster, restrict
from shared_model.config.choices import Modality
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.overrides import override
from shared_model.errors import ConfigError
from shared_model.system.seeding import numpy_generator
from shared_model.vocabulary import Split
from simulations.federation.prepare import PreparedFederation
from simulations.federation.server_files import write_holdout, write_roster

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)
NO_PRIVACY = "privacy=off"
CENTRAL = "CENTRAL"
"""The one site of a centralised run."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a study."""

    name: str
    overrides: tuple[str, ...]
    """Beyond those of the study."""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """The data that all cells of one seed share."""

    config: ExperimentConfig
    """With the server's files."""
    prepared: PreparedFederation
    owner: Mapping[str, str]
    """Patient to site, of all patients of the federation."""

    @classmethod
    def of(cls, prepared: PreparedFederation) -> "Ground":
        """Find out who owns whom.

        Raises:
            ConfigError: there is one site only, so nothing is federated.
        """
        config = prepared.config
        roster = read_roster(config.data)
        if roster is None or len(config.federation.sites) < 2:
            raise ConfigError("Expected federation.sites with two sites or more, and data.roster, for a study.")
        owner = {str(patient): roster[str(patient)] for patient in prepared.table.frame["patient_id"].unique()}
        return cls(config=config, prepared=prepared, owner=owner)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites."""
        return self.config.federation.sites

    def compared(self, roster: str | None = None) -> tuple[str, ...]:
        """Return the overrides of a cell with the federation's own test lesions and public patients."""
        evaluation = self.config.evaluation
        return (*self.tested_on(evaluation.holdout, roster), override("evaluation.public", evaluation.public))

    def tested_on(self, holdout: str | None, roster: str | None = None) -> tuple[str, ...]:
        """Return the overrides that fix test lesions and owners."""
        return (
            override("evaluation.holdout", holdout),
            override("data.roster", roster or self.config.data.roster),
            # Already dealt, where they were dealt.
            "federation.partition=hospital",
        )


def cross_validation(ground: Ground, *, num_folds: int) -> list[Cell]:
    """Train on all but one fold of the training patients, test on it; the official test patients take no part.

    Folds are balanced by hospital and by whether any lesion of a patient is malignant; no patient is in two.
    """
    config, frame = ground.config, ground.prepared.table.frame
    frame = frame[frame["split"] == Split.TRAIN]
    fold_of = assign_folds(frame, ground.owner, num_folds=num_folds, generator=numpy_generator(config.seed, "folds"))
    cells: list[Cell] = []
    for fold in range(num_folds):
        tested = {patient for patient, of_patient in fold_of.items() if of_patient == fold}
        holdout = write_holdout(config, restrict(ground.prepared.table, tested), ground.owner)
        roster = write_roster(config, {patient: ground.owner[patient] for patient in fold_of if patient not in tested})
        overrides = (*ground.tested_on(holdout, roster), "evaluation.privacy=none")
        cells.append(Cell(name=f"fold {fold + 1}", overrides=overrides))
    return cells


def assign_folds(
    frame: pd.DataFrame, owner: Mapping[str, str], *, num_folds: int, generator: np.random.Generator
) -> dict[str, int]:
    """Deal patients to folds, whose sizes differ by one at most, in total and in every stratum of hospital and class.

    Args:
        frame: columns ``patient_id`` and ``label``, a row per lesion.
        owner: patient to hospital.
        num_folds: at least 2.
        generator: shuffles every stratum.

    Raises:
        ConfigError: fewer than two folds, or fewer patients than folds.
    """
    is_malignant = frame.groupby("patient_id", sort=True)["label"].max()
    if not 2 <= num_folds <= len(is_malignant):
        raise ConfigError(f"Expected 2 <= number of folds={num_folds} <= {len(is_malignant)} patients.")
    strata: dict[tuple[str, int], list[str]] = {}
    for patient, label in is_malignant.items():
        strata.setdefault((owner[str(patient)], int(label)), []).append(str(patient))
    shuffled = [str(patient) for key in sorted(strata) for patient in generator.permutation(strata[key])]
    # Going on where the last stratum stopped keeps the folds' totals equal too.
    return {patient: place % num_folds for place, patient in enumerate(shuffled)}


def leave_one_hospital_out(ground: Ground) -> list[Cell]:
    """Train at all hospitals but one, test on every patient of that one."""
    cells: list[Cell] = []
    for held_out in ground.sites:
        patients = {patient for patient, site in ground.owner.items() if site == held_out}
        holdout = write_holdout(ground.config, restrict(ground.prepared.table, patients), ground.owner)
        others = [site for site in ground.sites if site != held_out]
        overrides = (*ground.tested_on(holdout), *only(others), "evaluation.privacy=none")
        cells.append(Cell(name=f"without {held_out}", overrides=overrides))
    return cells


def cross_site(ground: Ground) -> list[Cell]:
    """Train one network together and one at every hospital alone, and test each on the patients of all hospitals."""
    fixed = ground.compared()
    alone = (Cell(name=f"{site} alone", overrides=(*fixed, *only([site]))) for site in ground.sites)
    return [Cell(name="federated", overrides=fixed), *alone]


def baselines(ground: Ground) -> list[Cell]:
    """Compare with a central data set, with each hospital alone, and with each modality alone."""
    fixed = ground.compared()
    together, *alone = cross_site(ground)
    central = write_roster(ground.config, dict.fromkeys(ground.owner, CENTRAL))
    pooled = (*ground.compared(central), *only([CENTRAL]))
    cells = [
        together,
        Cell(name="federated, no privacy", overrides=(*fixed, NO_PRIVACY)),
        Cell(name="centralised", overrides=pooled),
        Cell(name="centralised, no privacy", overrides=(*pooled, NO_PRIVACY)),
        *alone,
    ]
    if ground.config.model.modality is Modality.FUSION:
        modalities = (Modality.IMAGE, Modality.CLINICAL)
        cells += [Cell(name=f"{one} only", overrides=(*fixed, f"model.modality={one}")) for one in modalities]
    return cells


def epsilon(ground: Ground) -> list[Cell]:
    """Train without privacy and at several budgets."""
    fixed = ground.compared()
    private = (Cell(name=f"epsilon {e:g}", overrides=(*fixed, f"privacy.target_epsilon={e}")) for e in EPSILONS)
    return [Cell(name="no privacy", overrides=(*fixed, NO_PRIVACY)), *private]


PROTOCOLS: Mapping[str, Callable[[Ground], list[Cell]]] = {
    "leave-one-hospital-out": leave_one_hospital_out,
    "cross-site": cross_site,
    "baselines": baselines,
    "epsilon": epsilon,
}
"""All but cross-validation and search, which have a number of folds."""


def only(sites: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of a federation of these sites, all of which must answer."""
    return (f"federation.sites=[{','.join(sites)}]", f"federation.min_sites={len(sites)}")
