"""The roles of all patients of a simulation: some are declared public before any site sees them."""

from pathlib import Path

import pandas as pd
import torch

from client.data.dataset import load_all_lesions
from client.data.network_inputs import Progress
from client.data.splits import Role, assign_roles, simulated_secret
from client.data.tables.lesion_table import LesionTable
from client.privacy.policy import OPEN_POLICY, SitePolicy
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.system.seeding import derive_seed

_HASH_BITS = 63
_FLOAT_BITS = 53


def patient_position(patient_id: str, seed: int) -> float:
    """Return the patient's fixed position in [0, 1), uniform over patients for a random ``seed``.

    >>> round(patient_position("P_00001", seed=0), 3)
    0.511
    """
    # The head of the 63-bit hash that a float holds exactly, so that rounding cannot reach 1.
    return (derive_seed(seed, "role", patient_id) >> (_HASH_BITS - _FLOAT_BITS)) / 2.0**_FLOAT_BITS


def policy_of_sites(config: ExperimentConfig) -> SitePolicy:
    """Return the policy of the simulated sites, which allows what ``federation.site_policy`` does not mention.

    Raises:
        ConfigError: it cannot be read, or a key is wrong.
    """
    path = config.federation.site_policy
    return SitePolicy.load(OPEN_POLICY if path is None else Path(path), defaults=OPEN_POLICY)


def simulated_roles(frame: pd.DataFrame, config: ExperimentConfig) -> "pd.Series[str]":
    """Return the role of every patient of ``frame``.

    Of the patients outside the official test split a share of ``data.public_fraction`` is public: known to the server,
    and dealt to no site. The others have the role that a simulated site gives them.

    Args:
        frame: columns ``patient_id`` and ``split``, as in ``LesionTable.frame``.
        config: its seed and public fraction are read, and the validation fraction where the sites' policy has none.

    Returns:
        ``Role`` indexed by ``patient_id``, in order of first appearance.

    Raises:
        ConfigError: as ``policy_of_sites``.
    """
    fraction = policy_of_sites(config).validation_fraction
    if fraction is None:
        fraction = config.data.validation_fraction
    roles = assign_roles(frame, secret=simulated_secret(config.seed), validation_fraction=fraction)
    positions = pd.Series([patient_position(str(patient), config.seed) for patient in roles.index], index=roles.index)
    is_public = (roles != Role.TEST) & (positions < config.data.public_fraction)
    return roles.mask(is_public, Role.PUBLIC)


def lesions_by_role(
    table: LesionTable, config: ExperimentConfig, report: Progress = lambda _done, _total: None
) -> tuple[dict[Role, Lesions], LesionTable]:
    """Turn the table into tensors by role; rows whose image cannot be read move to the rejects.

    Returns:
        Lesions by role (every role is present, possibly empty), and the table with its rejects completed.
    """
    lesions, table = load_all_lesions(table, config, report=report)
    role_of_row = table.frame["patient_id"].map(simulated_roles(table.frame, config))
    by_role = {role: lesions.select(torch.from_numpy((role_of_row == role).to_numpy(dtype=bool))) for role in Role}
    return by_role, table
