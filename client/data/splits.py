"""The role of every patient (training, validation, test or public), and whether a role's patients can be used."""

from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pandas as pd

from shared_model.errors import CohortError
from shared_model.system.seeding import derive_seed
from shared_model.vocabulary import Split

_HASH_BITS = 63
_FLOAT_BITS = 53


class Role(StrEnum):
    """What a patient's lesions are used for; every patient has one role."""

    TRAIN = "train"
    VALIDATION = "validation"
    """Kept from training, to choose the operating threshold."""
    TEST = "test"
    """The official test split."""
    PUBLIC = "public"
    """Declared public and withdrawn from every site's training."""


def patient_position(patient_id: str, seed: int) -> float:
    """Return the patient's fixed position in [0, 1), uniform over patients for a random ``seed``.

    >>> round(patient_position("P_00001", seed=0), 3)
    0.511
    """
    # The head of the 63-bit hash that a float holds exactly, so that rounding cannot reach 1.
    return (derive_seed(seed, "role", patient_id) >> (_HASH_BITS - _FLOAT_BITS)) / 2.0**_FLOAT_BITS


def _role(position: float, public_fraction: float, validation_fraction: float) -> Role:
    if position < public_fraction:
        return Role.PUBLIC
    return Role.VALIDATION if position < public_fraction + validation_fraction else Role.TRAIN


def assign_roles(
    frame: pd.DataFrame, *, public_fraction: float, validation_fraction: float, seed: int
) -> "pd.Series[str]":
    """Assign a role to every patient.

    Patients of the official test split are ``TEST``. Any other patient's role depends on the seed and the patient's
    identifier alone: a keyed hash in [0, 1) is compared with the fractions, instead of cutting a shuffled list. So a
    patient who is added or removed changes nobody else's role. A site's ledger relies on that: it counts the budget of
    a training cohort, and patients who changed their role between runs would escape the count. The price is that the
    fractions hold on average only, with a standard deviation of ``sqrt(f (1 - f) / N)``.

    Args:
        frame: columns ``patient_id`` and ``split``, as in ``LesionTable.frame``.
        public_fraction: expected share of public patients among those not in the test split, in [0, 1].
        validation_fraction: the same for validation patients; the two add up to 1 at most.
        seed: root seed; every site must use the same to agree on who is public.

    Returns:
        ``Role`` indexed by ``patient_id``, in order of first appearance.

    Raises:
        ValueError: a fraction is out of bounds, or a patient is in both splits.
    """
    # Written so that NaN fails.
    if not (public_fraction >= 0 and validation_fraction >= 0 and public_fraction + validation_fraction <= 1):
        raise ValueError(
            f"Expected public_fraction={public_fraction} >= 0 and validation_fraction={validation_fraction} >= 0 "
            "with a sum <= 1."
        )
    splits = frame[["patient_id", "split"]].drop_duplicates()
    if num_twice := int(splits["patient_id"].duplicated().sum()):
        raise ValueError(f"Expected every patient in one split, got {num_twice} in both.")
    roles = {
        str(patient): Role.TEST
        if split == Split.TEST
        else _role(patient_position(str(patient), seed), public_fraction, validation_fraction)
        for patient, split in zip(splits["patient_id"], splits["split"], strict=True)
    }
    return pd.Series(list(roles.values()), index=pd.Index(list(roles), name="patient_id"), name="role", dtype=object)


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
