"""The runs that each study consists of: ordinary simulated runs, each with a name and overrides of its own.

Test lesions, rosters and folds are files that the runs' configurations name, so that any run can be repeated by hand.
"""

import dataclasses
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
from simulations.federation.server_files import site_of_patients, write_holdout, write_roster

TARGET_EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)
NO_PRIVACY = "privacy=off"
CENTRAL = "CENTRAL"
"""The one site of a centralised run."""


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One run of a study."""

    name: str
    """Unique within the study; with the seed it names the run's folder."""
    overrides: tuple[str, ...]
    """Beyond those of the study."""


@dataclass(frozen=True, kw_only=True)
class StudyData:
    """The data that all runs of one seed share."""

    config: ExperimentConfig
    """With the server's files."""
    prepared: PreparedFederation
    roster: Mapping[str, str]
    """The site of every patient of the federation."""

    @classmethod
    def from_prepared(cls, prepared: PreparedFederation) -> "StudyData":
        """Look up the site of every patient.

        Raises:
            ConfigError: there is one site only, so nothing is federated.
        """
        data = dataclasses.replace(prepared.config.data, roster=prepared.roster)
        config = dataclasses.replace(prepared.config, data=data)
        roster = read_roster(config.data)
        if roster is None or len(config.federation.sites) < 2:
            raise ConfigError("Expected federation.sites with two sites or more, and data.roster, for a study.")
        named = site_of_patients(config, roster, prepared.table.frame)
        return cls(config=config, prepared=prepared, roster=named)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites."""
        return self.config.federation.sites

    def same_test_overrides(self, roster_file: str | None = None) -> tuple[str, ...]:
        """Return the overrides of a run with the federation's own test lesions and public patients.

        Args:
            roster_file: of training patients; None takes the federation's.
        """
        evaluation = self.config.evaluation
        public = override("evaluation.public", evaluation.public)
        return (*self.test_overrides(evaluation.holdout, roster_file), public)

    def test_overrides(self, holdout_file: str | None, roster_file: str | None = None) -> tuple[str, ...]:
        """Return the overrides that fix test lesions and the roster of training patients."""
        return (
            override("evaluation.holdout", holdout_file),
            override("data.roster", roster_file or self.config.data.roster),
            # Whatever the partition was, the roster has it now.
            "federation.partition=hospital",
        )


def site_overrides(sites: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of a federation of these sites, all of which must answer.

    >>> site_overrides(["MGH", "WFU"])
    ('federation.sites=[MGH,WFU]', 'federation.min_sites=2')
    """
    return (f"federation.sites=[{','.join(sites)}]", f"federation.min_sites={len(sites)}")


def cross_validation(data: StudyData, *, num_folds: int) -> list[StudyRun]:
    """Train on all but one fold of the training patients, test on it; the official test patients take no part.

    Folds are balanced by hospital and by whether any lesion of a patient is malignant; no patient is in two.
    """
    config, frame = data.config, data.prepared.table.frame
    frame = frame[frame["split"] == Split.TRAIN]
    generator = numpy_generator(config.seed, "folds")
    fold_of_patient = assign_folds(frame, data.roster, num_folds=num_folds, generator=generator)
    runs: list[StudyRun] = []
    for fold in range(num_folds):
        tested = {patient for patient, patients_fold in fold_of_patient.items() if patients_fold == fold}
        holdout_file = write_holdout(config, restrict(data.prepared.table, tested), data.roster)
        trained = {patient: data.roster[patient] for patient in fold_of_patient if patient not in tested}
        overrides = data.test_overrides(holdout_file, write_roster(config, trained))
        runs.append(StudyRun(name=f"fold {fold + 1}", overrides=(*overrides, "evaluation.privacy=none")))
    return runs


def assign_folds(
    frame: pd.DataFrame, roster: Mapping[str, str], *, num_folds: int, generator: np.random.Generator
) -> dict[str, int]:
    """Assign patients to folds whose sizes differ by one at most, in total and in every stratum of hospital and class.

    Args:
        frame: columns ``patient_id`` and ``label``, a row per lesion.
        roster: the hospital of every patient.
        num_folds: at least 2.
        generator: shuffles every stratum.

    Returns:
        The fold of every patient, from 0.

    Raises:
        ConfigError: fewer than two folds, or fewer patients than folds.
    """
    is_malignant = frame.groupby("patient_id", sort=True)["label"].max()
    if not 2 <= num_folds <= len(is_malignant):
        raise ConfigError(f"Expected 2 <= number of folds={num_folds} <= {len(is_malignant)} patients.")
    strata: dict[tuple[str, int], list[str]] = {}
    for patient, label in is_malignant.items():
        strata.setdefault((roster[str(patient)], int(label)), []).append(str(patient))
    shuffled = [str(patient) for key in sorted(strata) for patient in generator.permutation(strata[key])]
    # Every stratum begins with the fold after the last stratum's last, which keeps the folds' totals equal too.
    return {patient: place % num_folds for place, patient in enumerate(shuffled)}


def leave_one_hospital_out(data: StudyData) -> list[StudyRun]:
    """Train at all hospitals but one, test on every patient of that one."""
    runs: list[StudyRun] = []
    for held_out in data.sites:
        patients = {patient for patient, site in data.roster.items() if site == held_out}
        holdout_file = write_holdout(data.config, restrict(data.prepared.table, patients), data.roster)
        others = site_overrides([site for site in data.sites if site != held_out])
        overrides = (*data.test_overrides(holdout_file), *others, "evaluation.privacy=none")
        runs.append(StudyRun(name=f"without {held_out}", overrides=overrides))
    return runs


def cross_site(data: StudyData) -> list[StudyRun]:
    """Train one network together and one at every hospital alone, and test each on the patients of all hospitals."""
    same_test = data.same_test_overrides()
    alone = (StudyRun(name=f"{site} alone", overrides=(*same_test, *site_overrides([site]))) for site in data.sites)
    return [StudyRun(name="federated", overrides=same_test), *alone]


def baselines(data: StudyData) -> list[StudyRun]:
    """Compare with a central data set, with each hospital alone, and with each modality alone."""
    same_test = data.same_test_overrides()
    federated, *alone = cross_site(data)
    central_roster = write_roster(data.config, dict.fromkeys(data.roster, CENTRAL))
    central = (*data.same_test_overrides(central_roster), *site_overrides([CENTRAL]))
    runs = [
        federated,
        StudyRun(name="federated, no privacy", overrides=(*same_test, NO_PRIVACY)),
        StudyRun(name="centralised", overrides=central),
        StudyRun(name="centralised, no privacy", overrides=(*central, NO_PRIVACY)),
        *alone,
    ]
    if data.config.model.modality is Modality.FUSION:
        modalities = (Modality.IMAGE, Modality.CLINICAL)
        runs += [StudyRun(name=f"{one} only", overrides=(*same_test, f"model.modality={one}")) for one in modalities]
    return runs


def epsilon(data: StudyData) -> list[StudyRun]:
    """Train without privacy and at several target epsilons."""
    same_test = data.same_test_overrides()
    private = (
        StudyRun(name=f"epsilon {target:g}", overrides=(*same_test, f"privacy.target_epsilon={target}"))
        for target in TARGET_EPSILONS
    )
    return [StudyRun(name="no privacy", overrides=(*same_test, NO_PRIVACY)), *private]


PROTOCOLS: Mapping[str, Callable[[StudyData], list[StudyRun]]] = {
    "leave-one-hospital-out": leave_one_hospital_out,
    "cross-site": cross_site,
    "baselines": baselines,
    "epsilon": epsilon,
}
"""All but cross-validation and search, which have a number of folds."""
