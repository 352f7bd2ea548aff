"""What stands before a simulated federation: data on disk, sites dealt, images cached, the server's own files."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from client.data.dataset import configured_roles, load_all_lesions, load_lesions
from client.data.splits import Role, check_cohort
from client.data.tables.lesion_table import LesionTable, check_rejects, write_rejects
from client.data.tables.site_table import read_roster, read_table, restrict
from client.privacy.declared_size import declared_size
from server.evaluation.predictions import ATTRIBUTES
from shared_model.config.choices import Partition, PrivacyMode
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.errors import CohortError, ConfigError, PrivacyError
from shared_model.privacy.plan import PrivacyPlan
from shared_model.system.files import write_atomically
from shared_model.system.seeding import numpy_generator
from simulations.federation.partition import assign_sites
from simulations.phantom.write import write_phantom

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""
_SIMULATED = "simulated"
_MAX_DEALS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A configuration that sites and server can run, and what was found in the data."""

    config: ExperimentConfig
    table: LesionTable
    """All sites' rows together."""
    num_lesions: dict[Role, int]
    num_patients: dict[Role, int]


def prepare(config: ExperimentConfig, *, report: Progress) -> Prepared:
    """Make the simulation's data ready: everything that can fail on bad input fails here, before any training.

    Writes the phantom if the configuration asks for one, a roster for dealt partitions, the image cache, the
    server's test lesions and public lesions under ``data.cache_dir``, and one rejects file per site in the run folder.

    Raises:
        ConfigError, DataError: naming the file or key, the value and what was expected.
    """
    if config.phantom.num_patients is not None:
        _write_phantom(config, report)
    table = read_table(config)
    config = _with_roster(config, table)
    roster = read_roster(config.data)
    if roster is not None:
        members = {patient for patient, site in roster.items() if site in config.federation.sites}
        table = restrict(table, members)
    _account_for_rejects(config, roster, table)
    _require_sites(config, roster, table)
    lesions, table = load_lesions(table, config, report=lambda done, total: report("images", done, total))
    _account_for_rejects(config, roster, table)
    _check_cohorts(config, roster, table)
    _write_patients(config, roster, table)
    config = _with_server_files(config, lesions, table.frame, roster)
    return Prepared(
        config=config,
        table=table,
        num_lesions={role: len(part) for role, part in lesions.items()},
        num_patients={role: part.num_patients for role, part in lesions.items()},
    )


def _write_phantom(config: ExperimentConfig, report: Progress) -> None:
    num_patients = config.phantom.num_patients or 0
    write_phantom(
        Path(config.data.root),
        num_patients=num_patients,
        seed=config.seed,
        progress=lambda done: report("phantom", done, num_patients),
    )


def _with_roster(config: ExperimentConfig, table: LesionTable) -> ExperimentConfig:
    """Return the configuration with a roster of dealt patients; a hospital's patients are its own already.

    A deal that leaves a site unable to train is dealt again, as skewed ones now and then are (Li et al. 2022,
    NIID-Bench, does the same).

    Raises:
        CohortError, PrivacyError: no deal of ``_MAX_DEALS`` gave every site a cohort to train on.
    """
    federation = config.federation
    if federation.partition is Partition.HOSPITAL:
        return config
    generator = numpy_generator(config.seed, "partition")
    for deal in range(1, _MAX_DEALS + 1):
        owner = assign_sites(
            table.frame,
            federation.sites,
            partition=federation.partition,
            concentration=federation.concentration,
            generator=generator,
        )
        try:
            _check_cohorts(config, owner, table)
            break
        except (CohortError, PrivacyError):
            if deal == _MAX_DEALS:
                raise
    return dataclasses.replace(config, data=dataclasses.replace(config.data, roster=write_roster(config, owner)))


def _require_sites(config: ExperimentConfig, roster: dict[str, str] | None, table: LesionTable) -> None:
    if roster is None:
        if len(config.federation.sites) > 1:
            raise ConfigError("Expected data.roster to say whose patient is whose, or one site, got null.")
        return
    present = {roster[str(patient)] for patient in table.frame["patient_id"]}
    for site in config.federation.sites:
        if site not in present:
            known = ", ".join(sorted(set(roster.values())))
            raise CohortError(f"Expected patients of site {site} in {config.data.roster}, got none; it names {known}.")


def _check_cohorts(config: ExperimentConfig, roster: dict[str, str] | None, table: LesionTable) -> None:
    """Find out before training which site could not take part."""
    frame = table.frame
    roles = configured_roles(frame, config)
    is_training = frame["patient_id"].map(roles) == Role.TRAIN
    owners = _owners(config, roster, frame)
    for site in config.federation.sites:
        mine = frame[is_training & (owners == site)]
        try:
            check_cohort(mine["label"].to_numpy(), mine["patient_id"].to_numpy(), role=Role.TRAIN)
            num_declared = declared_size(mine["patient_id"].nunique(), config.privacy.cohort_rounding)
            if config.privacy.mode is PrivacyMode.PATIENT:
                PrivacyPlan.calibrate(config.privacy, config.training, num_declared)
        except (CohortError, PrivacyError) as error:
            raise type(error)(f"Site {site}: {error}") from error


def _write_patients(config: ExperimentConfig, roster: dict[str, str] | None, table: LesionTable) -> None:
    """Write for every site how many patients and lesions it has in each role."""
    roles = configured_roles(table.frame, config)
    for site, mine in _tables_of_sites(config, roster, table):
        groups = mine.frame.groupby(mine.frame["patient_id"].map(roles))["patient_id"]
        counted = pd.DataFrame({"patients": groups.nunique(), "lesions": groups.size()})
        content = counted.rename_axis("role").reset_index().to_csv(index=False)
        write_atomically(Path(config.run.dir) / "sites" / site / "patients.csv", content.encode())


def _tables_of_sites(
    config: ExperimentConfig, roster: Mapping[str, str] | None, table: LesionTable
) -> Iterator[tuple[str, LesionTable]]:
    for site in config.federation.sites:
        mine = table if roster is None else restrict(table, {p for p, owner in roster.items() if owner == site})
        yield site, mine


def _owners(config: ExperimentConfig, roster: Mapping[str, str] | None, frame: pd.DataFrame) -> "pd.Series[str]":
    """Return the site of every row."""
    only = config.federation.sites[0]
    return frame["patient_id"].map(lambda patient: only if roster is None else roster[patient])


def _account_for_rejects(config: ExperimentConfig, roster: dict[str, str] | None, table: LesionTable) -> None:
    """Write every site's rejects, then stop if there are too many."""
    for site, mine in _tables_of_sites(config, roster, table):
        write_rejects(mine, Path(config.run.dir) / "sites" / site / "rejects.csv")
    check_rejects(table, config.data.max_reject_fraction)


def write_holdout(config: ExperimentConfig, table: LesionTable, roster: Mapping[str, str] | None) -> str:
    """Write all lesions of ``table`` as a test file of the server's, with what describes them, and return its path."""
    lesions, table = load_all_lesions(table, config)
    return _write_holdout(config, lesions, table.frame, roster)


def _write_holdout(
    config: ExperimentConfig, lesions: Lesions, frame: pd.DataFrame, roster: Mapping[str, str] | None
) -> str:
    owners = _owners(config, roster, frame)
    attributes = pd.DataFrame({name: owners if name == "site" else frame[name] for name in ATTRIBUTES})
    contents = {".safetensors": lesions.to_bytes(), ".csv": attributes.to_csv(index=False).encode()}
    return str(_server_path(config, "holdout", contents))


def _with_server_files(
    config: ExperimentConfig, lesions: dict[Role, Lesions], frame: pd.DataFrame, roster: Mapping[str, str] | None
) -> ExperimentConfig:
    """Write the server's test and public lesions and return the configuration that names them."""
    evaluation = config.evaluation
    if evaluation.holdout is None and len(lesions[Role.TEST]):
        of_test = frame[frame["patient_id"].map(configured_roles(frame, config)) == Role.TEST]
        holdout = _write_holdout(config, lesions[Role.TEST], of_test, roster)
        evaluation = dataclasses.replace(evaluation, holdout=holdout)
    if evaluation.public is None and len(lesions[Role.PUBLIC]):
        public = _server_path(config, "public", {".safetensors": lesions[Role.PUBLIC].to_bytes()})
        evaluation = dataclasses.replace(evaluation, public=str(public))
    return dataclasses.replace(config, evaluation=evaluation)


def write_roster(config: ExperimentConfig, owner: Mapping[str, str]) -> str:
    """Write who is whose patient, and return the path."""
    text = pd.DataFrame({"patient_id": list(owner), "site": list(owner.values())}).to_csv(index=False)
    return str(_server_path(config, "roster", {".csv": text.encode()}))


def _server_path(config: ExperimentConfig, name: str, contents: Mapping[str, bytes]) -> Path:
    """Write contents by suffix under a name of their digest: equal content is one file, and runs do not collide.

    Returns:
        The path of the first.
    """
    digest = hashlib.sha256(b"".join(contents.values())).hexdigest()[:16]
    path = Path(config.data.cache_dir).resolve() / _SIMULATED / f"{name}-{digest}"
    for suffix, content in contents.items():
        if not path.with_suffix(suffix).exists():
            write_atomically(path.with_suffix(suffix), content)
    return path.with_suffix(next(iter(contents)))
