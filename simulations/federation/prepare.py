"""Prepares the data of a simulated federation: phantom, partition, image cache, checks, and the server's own files."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from client.data.shared_images import require_own_images
from client.data.splits import Role, check_cohort
from client.data.tables.image_counts import ImageCount
from client.data.tables.lesion_table import LesionTable, check_rejects
from client.data.tables.rejects import write_rejects
from client.data.tables.roster import patient_key
from client.data.tables.site_table import of_roster, read_roster, read_shared_table, restrict
from client.privacy.declared_size import declared_size
from server.evaluation.shipped_constants import load_shipped
from shared_model.config.choices import Modality, Partition, PrivacyMode
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.errors import CohortError, ConfigError, PrivacyError
from shared_model.privacy.plan import PrivacyPlan
from shared_model.system.files import write_atomically
from shared_model.system.seeding import numpy_generator
from simulations.federation.partition import assign_sites
from simulations.federation.server_files import (
    is_own_roster,
    site_of_patients,
    site_of_rows,
    write_public_lesions,
    write_roster,
    write_test_lesions,
)
from simulations.patient_roles import lesions_by_role, policy_of_sites, simulated_roles
from simulations.phantom.write import write_phantom

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""
Roster = Mapping[str, str]
"""The site of every patient."""
_CBIS_SUBJECT = re.compile(r"(?:mass|calc)-(?:training|test)_(p_\d+)(?:_.*)?")
"""Folded, such as ``Mass-Training_P_00001_LEFT_CC``: the Patient ID (0010,0020) of its files, one for each film."""
_MAX_PARTITIONS = 100
"""Partitions that are drawn before one that leaves a site unable to train is an error."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreparedFederation:
    """A configuration that sites and server can run, and what was found in the data."""

    config: ExperimentConfig
    """Its roster names no public patient, so that no site ever sees one."""
    roster: str | None
    """Path of the roster with the public patients."""
    table: LesionTable
    """All sites' rows together, those of public patients too."""
    images: ImageCount | None
    """Lesions with a file to read; None where the network reads none."""
    num_lesions: dict[Role, int]
    num_patients: dict[Role, int]
    num_declared: int
    """Training patients that all sites together declare."""


def prepare(config: ExperimentConfig, *, on_progress: Progress) -> PreparedFederation:
    """Prepare the data of all sites; whatever can fail on bad input fails here, before any training.

    Writes the phantom if the configuration asks for one, a roster where patients are assigned to sites, the image
    cache, the server's test lesions and public lesions under ``data.cache_dir``, and one rejects file per site in the
    run folder.

    Raises:
        ConfigError, DataError: naming the file or key, the value and what was expected.
    """
    if config.phantom.num_patients is not None:
        _write_phantom(config, on_progress)
    table = read_shared_table(config)
    config = _with_roster(config, table)
    roster = read_roster(config.data, sites=config.federation.sites)
    if roster is not None:
        table = _of_federation(config, roster, table)
    _write_site_files(config, roster, table)
    check_rejects(table, config.data.max_reject_fraction)
    images = _check_images(config, table)
    _check_other_patients(config, table)
    _check_sites(config, roster, table)
    lesions, table = lesions_by_role(table, config, report=lambda done, total: on_progress("images", done, total))
    _write_site_files(config, roster, table)
    check_rejects(table, config.data.max_reject_fraction)
    num_declared = _check_cohorts(config, roster, table)
    config = _with_server_files(config, lesions, table.frame, roster)
    return PreparedFederation(
        config=_without_public_patients(config, roster, table.frame),
        roster=config.data.roster,
        table=table,
        images=images,
        num_lesions={role: len(part) for role, part in lesions.items()},
        num_patients={role: part.num_patients for role, part in lesions.items()},
        num_declared=num_declared,
    )


def _write_phantom(config: ExperimentConfig, on_progress: Progress) -> None:
    num_patients = config.phantom.num_patients or 0
    write_phantom(
        Path(config.data.root),
        num_patients=num_patients,
        seed=config.seed,
        progress=lambda done: on_progress("phantom", done, num_patients),
    )


def _with_roster(config: ExperimentConfig, table: LesionTable) -> ExperimentConfig:
    """Return the configuration with a roster of the partition; with ``hospital`` every patient has a site already.

    A partition that leaves a site unable to train is drawn again, which skewed ones need now and then (Li et al. 2022,
    NIID-Bench, does the same).

    Raises:
        CohortError, PrivacyError: none of ``_MAX_PARTITIONS`` gave every site a cohort to train on.
    """
    federation = config.federation
    if federation.partition is Partition.HOSPITAL:
        return config
    generator = numpy_generator(config.seed, "partition")
    for attempt in range(1, _MAX_PARTITIONS + 1):
        roster = assign_sites(
            table.frame,
            federation.sites,
            partition=federation.partition,
            concentration=federation.concentration,
            generator=generator,
        )
        try:
            _check_cohorts(config, roster, table)
            break
        except (CohortError, PrivacyError):
            if attempt == _MAX_PARTITIONS:
                raise
    return dataclasses.replace(config, data=dataclasses.replace(config.data, roster=write_roster(config, roster)))


def _of_federation(config: ExperimentConfig, roster: Roster, table: LesionTable) -> LesionTable:
    """Return the rows of the federation's patients; those of patients whom the roster does not name are rejected.

    A roster that a simulation wrote leaves patients out on purpose.
    """
    patients = {patient for patient, site in roster.items() if site in config.federation.sites}
    if is_own_roster(config):
        return restrict(table, patients)
    return of_roster(table, named=set(map(patient_key, roster)), kept=set(map(patient_key, patients)))


def _check_images(config: ExperimentConfig, table: LesionTable) -> ImageCount | None:
    """Count the lesions with an image.

    Raises:
        DataError: the network is to read images, and there is none, or two patients have the same one.
    """
    if config.model.modality is Modality.CLINICAL:
        return None
    images = ImageCount.of(table, config.data.image.mode)
    images.require_some(
        "correct data.root or the paths in the tables (image_path in a manifest), or set model.modality=clinical"
    )
    require_own_images(table, config)
    return images


def _check_other_patients(config: ExperimentConfig, table: LesionTable) -> None:
    """Check that no patient, whatever the role, is among those whom the numbers that the run begins with are made of.

    Raises:
        ConfigError: one is, or as ``load_shipped``.
    """
    reference = load_shipped(config)
    if reference is None:
        return
    known = set(map(_public_key, reference.facts.patients))
    shared = known & set(table.frame["patient_id"].map(_public_key))
    if shared:
        raise ConfigError(
            f"Expected constants of other patients than the run's, {len(shared)} are among those of the file of "
            f"model.feature_constants=shipped, {reference.facts.origin}; make one with fedmammo reference constants "
            "--sites of hospitals that are not in federation.sites."
        )


def _public_key(patient: str) -> str:
    """Return the folded identifier; of a subject of CBIS-DDSM, as its DICOM files name one, that of the tables."""
    key = patient_key(patient)
    subject = _CBIS_SUBJECT.fullmatch(key)
    return key if subject is None else subject[1]


def _without_public_patients(config: ExperimentConfig, roster: Roster | None, frame: pd.DataFrame) -> ExperimentConfig:
    """Return the configuration with a roster that assigns the public patients to no site."""
    roles = simulated_roles(frame, config)
    sites = site_of_patients(config, roster, frame)
    kept = {patient: site for patient, site in sites.items() if roles.loc[patient] != Role.PUBLIC}
    if len(kept) == len(roles):
        return config
    written = write_roster(config, kept, withheld=sorted(set(map(str, roles.index)) - kept.keys()))
    return dataclasses.replace(config, data=dataclasses.replace(config.data, roster=written))


def _check_sites(config: ExperimentConfig, roster: Roster | None, table: LesionTable) -> None:
    """Check that every site of the federation has patients."""
    if roster is None:
        if len(config.federation.sites) > 1:
            raise ConfigError("Expected data.roster to say whose patient is whose, or one site, got null.")
        return
    present = set(site_of_rows(config, roster, table.frame))
    for site in config.federation.sites:
        if site not in present:
            known = ", ".join(sorted(set(roster.values())))
            raise CohortError(f"Expected patients of site {site} in {config.data.roster}, got none; it names {known}.")


def _check_cohorts(config: ExperimentConfig, roster: Roster | None, table: LesionTable) -> int:
    """Check that every site could train: both classes, enough patients, and noise that keeps the target epsilon.

    Returns:
        Patients that all sites together declare.
    """
    frame, policy = table.frame, policy_of_sites(config)
    is_training = frame["patient_id"].map(simulated_roles(frame, config)) == Role.TRAIN
    sites, total = site_of_rows(config, roster, frame), 0
    for site in config.federation.sites:
        rows = frame[is_training & (sites == site)]
        try:
            check_cohort(rows["label"].to_numpy(), rows["patient_id"].to_numpy(), role=Role.TRAIN)
            num_declared = policy.declared_patients or declared_size(
                rows["patient_id"].nunique(), config.privacy.cohort_rounding
            )
            if config.privacy.mode is PrivacyMode.PATIENT:
                PrivacyPlan.calibrate(config, num_declared)
        except (CohortError, PrivacyError) as error:
            raise type(error)(f"Site {site}: {error}") from error
        total += num_declared
    return total


def _write_site_files(config: ExperimentConfig, roster: Roster | None, table: LesionTable) -> None:
    """Write every site's rejected rows and the cells taken as missing, and its patients and lesions in each role.

    Rejected rows of patients whom no site has stand in a file of their own.
    """
    roles = simulated_roles(table.frame, config)
    if roster is not None:
        owners = set(map(patient_key, roster))
        is_open = ~table.rejects["patient_id"].map(patient_key).isin(owners)
        write_rejects([table.rejects[is_open]], Path(config.run.dir) / "sites" / "rejects_of_no_site.csv")
    for site in config.federation.sites:
        site_table, folder = table, Path(config.run.dir) / "sites" / site
        if roster is not None:
            site_table = restrict(table, {patient for patient, home in roster.items() if home == site})
        write_rejects([site_table.rejects, site_table.excluded], folder / "rejects.csv")
        write_rejects([site_table.unreadable], folder / "unreadable_cells.csv")
        groups = site_table.frame.groupby(site_table.frame["patient_id"].map(roles))["patient_id"]
        counts = pd.DataFrame({"patients": groups.nunique(), "lesions": groups.size()})
        write_atomically(folder / "patients.csv", counts.rename_axis("role").reset_index().to_csv(index=False).encode())


def _with_server_files(
    config: ExperimentConfig, lesions: dict[Role, Lesions], frame: pd.DataFrame, roster: Roster | None
) -> ExperimentConfig:
    """Write the server's test and public lesions and return the configuration that names them."""
    evaluation = config.evaluation
    if evaluation.holdout is None and len(lesions[Role.TEST]):
        test_rows = frame[frame["patient_id"].map(simulated_roles(frame, config)) == Role.TEST]
        holdout = write_test_lesions(config, lesions[Role.TEST], test_rows, roster)
        evaluation = dataclasses.replace(evaluation, holdout=holdout)
    if evaluation.public is None and len(lesions[Role.PUBLIC]):
        evaluation = dataclasses.replace(evaluation, public=write_public_lesions(config, lesions[Role.PUBLIC]))
    return dataclasses.replace(config, evaluation=evaluation)
