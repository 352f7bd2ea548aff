"""The role of every patient (training, validation, test), and whether a role's patients can be used.

Roles belong to the site. A server that could choose them, by a seed or a fraction, would choose whose absence it sees.
"""

import hashlib
import hmac
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

from client.identifiers import folded_or_none
from shared_model.errors import CohortError
from shared_model.vocabulary import Split


class Role(StrEnum):
    """What a patient's lesions are used for; every patient has one role."""

    TRAIN = "train"
    VALIDATION = "validation"
    """Kept from training, to choose the operating threshold."""
    TEST = "test"
    """The official test split."""
    PUBLIC = "public"
    """Dealt to nobody: a simulation declares some patients public before any site sees them."""


def simulated_secret(seed: int) -> bytes:
    """Return the secret of simulated sites, which protects nobody."""
    return hashlib.sha256(f"roles of simulated sites, seed {seed}".encode()).digest()


def assign_roles(frame: pd.DataFrame, *, secret: bytes, validation_fraction: float) -> "pd.Series[str]":
    """Assign a role to every patient.

    A patient with a row in the official test split is ``TEST``. Any other patient's role depends on the secret and the
    patient's folded identifier alone: a keyed hash (HMAC-SHA256) in [0, 1) is compared with the fraction. So a patient
    who is added or removed changes nobody else's role, and nobody without the secret can tell or choose a role. The
    fraction holds on average only, with a standard deviation of ``sqrt(f (1 - f) / N)``.

    Args:
        frame: columns ``patient_id`` and ``split``, as in ``LesionTable.frame``.
        secret: of the site, 32 bytes.
        validation_fraction: expected share of validation patients among those not in the test split, in [0, 1].

    Returns:
        ``Role`` indexed by ``patient_id``, in order of first appearance.

    Raises:
        ValueError: the fraction is out of bounds.
    """
    # Written so that NaN fails.
    if not 0 <= validation_fraction <= 1:
        raise ValueError(f"Expected validation_fraction={validation_fraction} in [0, 1].")
    roles: dict[str, Role] = {}
    for patient, split in frame[["patient_id", "split"]].drop_duplicates().itertuples(index=False):
        if split == Split.TEST:
            roles[str(patient)] = Role.TEST
        elif str(patient) not in roles:
            is_kept = _position(str(patient), secret) < validation_fraction
            roles[str(patient)] = Role.VALIDATION if is_kept else Role.TRAIN
    return pd.Series(list(roles.values()), index=pd.Index(list(roles), name="patient_id"), name="role", dtype=object)


def _position(patient: str, secret: bytes) -> float:
    """Return the patient's position in [0, 1)."""
    digest = hmac.digest(secret, (folded_or_none(patient) or patient).encode("utf-8", "surrogatepass"), "sha256")
    # The 53 bits that a float holds exactly, so that rounding cannot reach 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53


def check_cohort(labels: npt.ArrayLike, patients: npt.ArrayLike, *, role: Role) -> None:
    """Check that the lesions of ``role`` can be used at all.

    The message holds counts of this site's patients: it is for the person at the site and must not leave it.

    Args:
        labels: ``(N,)``, 0 or 1.
        patients: ``(N,)``; equal entries are the same patient.
        role: whose lesions these are; only training needs both classes.

    Raises:
        CohortError: there is no lesion, or a training cohort has one class only.
        ValueError: ``labels`` and ``patients`` differ in length.
    """
    outcomes, identities = np.asarray(labels), np.asarray(patients)
    if outcomes.shape != identities.shape:
        raise ValueError(f"Expected labels {outcomes.shape} and patients {identities.shape} of the same shape.")
    if not outcomes.size:
        raise CohortError(f"Expected number of {role} patients=0 > 0.")
    classes = np.unique(outcomes)
    if role is Role.TRAIN and len(classes) == 1:
        kind = "malignant" if classes[0] else "benign"
        raise CohortError(
            f"Expected {role} patients of both classes, got {outcomes.size} lesions of {len(np.unique(identities))} "
            f"patients, all {kind}."
        )
