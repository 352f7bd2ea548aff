"""Synthetic patients and the rows of their lesions, distributed as in CBIS-DDSM.

All shares are rounded counts over the four official case descriptions, 1,696 mass and 1,872 calcification rows
(Sawyer-Lee et al. 2016, The Cancer Imaging Archive, doi 10.7937/K9/TCIA.2016.7O02S9CY; Lee et al. 2017, Sci. Data
4:170177). Numbers of patients are met exactly in every hospital, so that small cohorts hold both classes everywhere.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from shared_model.system.seeding import numpy_generator
from shared_model.vocabulary import Laterality, LesionType, Pathology, Split, View

MIN_PATIENTS = 12
"""The smallest hospital then has two patients, one of each class."""
MAX_PATIENTS = 20_000
"""Above this the patient numbers would outgrow the five digits of CBIS-DDSM."""

SITE_SHARES = {"MGH": 0.3, "WFU": 0.5, "ISMD": 0.2}
"""Share of patients; in CBIS-DDSM the hospitals have 38, 51 and 11 %."""
SERIES_LETTERS = {"MGH": "A", "WFU": "BC", "ISMD": "D"}
"""DDSM volumes of each hospital (Heath et al. 2001, Proc. 5th Int. Workshop on Digital Mammography)."""
MALIGNANT_SHARE = 0.41
MASS_SHARES = {1: 0.56, 0: 0.46}
"""Share of masses among malignant and benign lesions, where both types are equally many."""
NO_CALLBACK_SHARES = {LesionType.MASS: 0.15, LesionType.CALCIFICATION: 0.45}
"""Share of ``BENIGN_WITHOUT_CALLBACK`` among benign lesions."""
TEST_SHARE = 0.35
"""CBIS-DDSM has 0.2; the larger share narrows the interval of the AUC."""
SINGLE_VIEW_SHARE = 0.25
SECOND_LESION_SHARE = 0.1
BOTH_SPLITS_SHARE = 0.02
"""Patients in train of one lesion type and in test of the other; 31 of 1,566 in CBIS-DDSM."""
DENSITY_ZERO_SHARE = 0.01
EMPTY_SHARE = 0.01
"""Masses with an empty cell for shape, and as many for margins; beside the cells that read ``NA``."""
JOINED_SHARE = 0.02
"""Masses called ``ROUND-OVAL`` or ``OVAL-ROUND``."""
HIDDEN_SEPARATION = 1.5
"""Distance between the classes' means of ``Lesion.aggressiveness`` in standard deviations: AUC 0.86 if it were seen."""

Shares = Mapping[str, float]
Value = TypeVar("Value")

DESCRIPTORS: dict[LesionType, dict[Pathology, Shares]] = {
    LesionType.MASS: {
        Pathology.MALIGNANT: {
            "IRREGULAR SPICULATED": 0.263,
            "IRREGULAR ILL_DEFINED": 0.145,
            "LOBULATED MICROLOBULATED": 0.043,
            "LOBULATED ILL_DEFINED": 0.041,
            "ARCHITECTURAL_DISTORTION SPICULATED": 0.041,
            "OVAL ILL_DEFINED": 0.036,
            "OVAL MICROLOBULATED": 0.036,
            "IRREGULAR-ARCHITECTURAL_DISTORTION SPICULATED": 0.034,
            "OVAL SPICULATED": 0.032,
            "LOBULATED CIRCUMSCRIBED": 0.031,
            "ROUND SPICULATED": 0.026,
            "ROUND ILL_DEFINED": 0.022,
            "IRREGULAR MICROLOBULATED": 0.018,
            "ARCHITECTURAL_DISTORTION ILL_DEFINED": 0.018,
            "LOBULATED CIRCUMSCRIBED-ILL_DEFINED": 0.015,
            "OVAL OBSCURED": 0.014,
            "IRREGULAR ILL_DEFINED-SPICULATED": 0.013,
            "IRREGULAR OBSCURED-ILL_DEFINED": 0.013,
            "OVAL CIRCUMSCRIBED": 0.013,
            "LOBULATED OBSCURED": 0.013,
            "IRREGULAR-ARCHITECTURAL_DISTORTION ILL_DEFINED-SPICULATED": 0.013,
            "ARCHITECTURAL_DISTORTION NA": 0.011,
            "ROUND CIRCUMSCRIBED": 0.011,
            "LOBULATED SPICULATED": 0.010,
            "ASYMMETRIC_BREAST_TISSUE ILL_DEFINED": 0.010,
        },
        Pathology.BENIGN: {
            "LOBULATED CIRCUMSCRIBED": 0.156,
            "OVAL CIRCUMSCRIBED": 0.153,
            "OVAL OBSCURED": 0.130,
            "LOBULATED OBSCURED": 0.088,
            "ROUND CIRCUMSCRIBED": 0.071,
            "IRREGULAR ILL_DEFINED": 0.064,
            "OVAL ILL_DEFINED": 0.042,
            "ROUND OBSCURED": 0.040,
            "LOBULATED ILL_DEFINED": 0.030,
            "OVAL MICROLOBULATED": 0.022,
            "LOBULATED MICROLOBULATED": 0.022,
            "ARCHITECTURAL_DISTORTION SPICULATED": 0.017,
            "IRREGULAR OBSCURED": 0.016,
            "OVAL CIRCUMSCRIBED-OBSCURED": 0.014,
            "IRREGULAR SPICULATED": 0.014,
            "LOBULATED CIRCUMSCRIBED-ILL_DEFINED": 0.013,
            "ARCHITECTURAL_DISTORTION ILL_DEFINED": 0.012,
            "ROUND ILL_DEFINED": 0.012,
        },
        Pathology.BENIGN_WITHOUT_CALLBACK: {
            "LYMPH_NODE CIRCUMSCRIBED": 0.149,
            "LYMPH_NODE NA": 0.092,
            "ASYMMETRIC_BREAST_TISSUE NA": 0.085,
            "OVAL CIRCUMSCRIBED": 0.071,
            "IRREGULAR SPICULATED": 0.071,
            "FOCAL_ASYMMETRIC_DENSITY NA": 0.071,
            "LOBULATED CIRCUMSCRIBED": 0.050,
            "ROUND CIRCUMSCRIBED": 0.043,
            "OVAL-LYMPH_NODE CIRCUMSCRIBED": 0.043,
            "ARCHITECTURAL_DISTORTION NA": 0.043,
            "OVAL ILL_DEFINED": 0.035,
            "LOBULATED-LYMPH_NODE CIRCUMSCRIBED": 0.028,
            "ARCHITECTURAL_DISTORTION ILL_DEFINED": 0.028,
            "OVAL OBSCURED": 0.028,
            "ARCHITECTURAL_DISTORTION SPICULATED": 0.028,
            "ROUND MICROLOBULATED": 0.021,
            "LOBULATED MICROLOBULATED": 0.021,
            "ASYMMETRIC_BREAST_TISSUE ILL_DEFINED": 0.014,
            "LOBULATED OBSCURED": 0.014,
            "OVAL MICROLOBULATED": 0.014,
        },
    },
    LesionType.CALCIFICATION: {
        Pathology.MALIGNANT: {
            "PLEOMORPHIC CLUSTERED": 0.403,
            "PLEOMORPHIC SEGMENTAL": 0.113,
            "PLEOMORPHIC LINEAR": 0.064,
            "AMORPHOUS CLUSTERED": 0.062,
            "FINE_LINEAR_BRANCHING LINEAR": 0.039,
            "PLEOMORPHIC REGIONAL": 0.039,
            "PUNCTATE CLUSTERED": 0.037,
            "FINE_LINEAR_BRANCHING CLUSTERED": 0.036,
            "FINE_LINEAR_BRANCHING SEGMENTAL": 0.022,
            "PUNCTATE-PLEOMORPHIC CLUSTERED": 0.019,
            "FINE_LINEAR_BRANCHING CLUSTERED-LINEAR": 0.016,
            "AMORPHOUS SEGMENTAL": 0.016,
            "PLEOMORPHIC-FINE_LINEAR_BRANCHING SEGMENTAL": 0.012,
        },
        Pathology.BENIGN: {
            "PLEOMORPHIC CLUSTERED": 0.483,
            "AMORPHOUS CLUSTERED": 0.128,
            "PUNCTATE CLUSTERED": 0.067,
            "PLEOMORPHIC SEGMENTAL": 0.055,
            "AMORPHOUS SEGMENTAL": 0.036,
            "PUNCTATE-PLEOMORPHIC CLUSTERED": 0.024,
            "PUNCTATE SEGMENTAL": 0.023,
            "DYSTROPHIC CLUSTERED": 0.018,
            "FINE_LINEAR_BRANCHING LINEAR": 0.014,
            "ROUND_AND_REGULAR-PLEOMORPHIC CLUSTERED": 0.012,
            "PLEOMORPHIC LINEAR": 0.011,
            "ROUND_AND_REGULAR CLUSTERED": 0.011,
        },
        Pathology.BENIGN_WITHOUT_CALLBACK: {
            "LUCENT_CENTER NA": 0.203,
            "VASCULAR NA": 0.153,
            "COARSE NA": 0.067,
            "ROUND_AND_REGULAR-LUCENT_CENTER NA": 0.057,
            "PUNCTATE NA": 0.048,
            "ROUND_AND_REGULAR-LUCENT_CENTER-PUNCTATE DIFFUSELY_SCATTERED": 0.044,
            "ROUND_AND_REGULAR-EGGSHELL NA": 0.043,
            "ROUND_AND_REGULAR NA": 0.031,
            "LUCENT_CENTERED NA": 0.031,
            "NA REGIONAL": 0.030,
            "ROUND_AND_REGULAR-LUCENT_CENTERED NA": 0.026,
            "LARGE_RODLIKE-ROUND_AND_REGULAR REGIONAL": 0.020,
            "EGGSHELL NA": 0.020,
            "COARSE-ROUND_AND_REGULAR-LUCENT_CENTER NA": 0.018,
            "VASCULAR-COARSE-LUCENT_CENTERED NA": 0.015,
            "PLEOMORPHIC CLUSTERED": 0.015,
            "LUCENT_CENTER-PUNCTATE NA": 0.015,
            "VASCULAR LINEAR": 0.013,
            "DYSTROPHIC CLUSTERED": 0.011,
            "VASCULAR-COARSE NA": 0.011,
            "COARSE-LUCENT_CENTER NA": 0.011,
        },
    },
}
"""Pairs of (shape, margins) or (type, distribution) of at least 1 % of the rows; rarer ones are left out."""

# One entry per value: density 1 to 4, subtlety 1 to 5, assessment 0 to 5.
GRADES: dict[LesionType, dict[Pathology, dict[str, tuple[float, ...]]]] = {
    LesionType.MASS: {
        Pathology.MALIGNANT: {
            "density": (0.20, 0.46, 0.26, 0.08),
            "subtlety": (0.04, 0.10, 0.16, 0.23, 0.47),
            "assessment": (0.03, 0.0, 0.0, 0.06, 0.45, 0.46),
        },
        Pathology.BENIGN: {
            "density": (0.16, 0.44, 0.29, 0.11),
            "subtlety": (0.03, 0.07, 0.26, 0.30, 0.34),
            "assessment": (0.18, 0.0, 0.04, 0.32, 0.45, 0.01),
        },
        Pathology.BENIGN_WITHOUT_CALLBACK: {
            "density": (0.36, 0.43, 0.17, 0.04),
            "subtlety": (0.01, 0.04, 0.23, 0.34, 0.38),
            "assessment": (0.0, 0.0, 0.42, 0.48, 0.09, 0.01),
        },
    },
    LesionType.CALCIFICATION: {
        Pathology.MALIGNANT: {
            "density": (0.07, 0.31, 0.38, 0.24),
            "subtlety": (0.09, 0.19, 0.31, 0.21, 0.20),
            "assessment": (0.05, 0.0, 0.0, 0.08, 0.58, 0.29),
        },
        Pathology.BENIGN: {
            "density": (0.07, 0.32, 0.31, 0.30),
            "subtlety": (0.09, 0.26, 0.31, 0.21, 0.13),
            "assessment": (0.06, 0.0, 0.03, 0.09, 0.82, 0.0),
        },
        Pathology.BENIGN_WITHOUT_CALLBACK: {
            "density": (0.20, 0.36, 0.36, 0.08),
            "subtlety": (0.0, 0.0, 0.35, 0.27, 0.38),
            "assessment": (0.0, 0.0, 0.98, 0.01, 0.01, 0.0),
        },
    },
}


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """One lesion; its views share one row of descriptors."""

    lesion_type: LesionType
    split: Split
    laterality: Laterality
    number: int
    """``abnormality id``, from 1."""
    views: tuple[View, ...]
    pathology: Pathology
    recorded_density: int
    """As the table gives it: 0 in a few rows."""
    form: str
    """Mass shape or calcification type, as in the table: joined by ``-``, ``NA`` or empty."""
    extent: str
    """Mass margins or calcification distribution, likewise."""
    assessment: int
    subtlety: int
    aggressiveness: float
    """What the film shows of the outcome beyond the descriptors; no column holds it."""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """One woman, seen at one hospital."""

    patient_id: str
    institution: str
    series_letter: str
    density: int
    """BI-RADS density of the tissue on her films, 1 to 4."""
    lesions: tuple[Lesion, ...]


@dataclass(frozen=True, kw_only=True)
class _Role:
    """What is fixed about a patient before anything is drawn."""

    institution: str
    label: int
    lesion_type: LesionType
    split: Split


def draw_cohort(num_patients: int, seed: int) -> tuple[Patient, ...]:
    """Draw ``num_patients`` patients, sorted by identifier; the same arguments give the same patients.

    Raises:
        ValueError: ``num_patients`` is out of bounds.
    """
    if not MIN_PATIENTS <= num_patients <= MAX_PATIENTS:
        raise ValueError(f"Expected num_patients={num_patients} in [{MIN_PATIENTS}, {MAX_PATIENTS}].")
    rng = numpy_generator(seed, "phantom", "cohort")
    roles = _draw_roles(num_patients, rng)
    numbers = np.sort(rng.choice(np.arange(1, 4 * num_patients + 1), num_patients, replace=False))
    rng.shuffle(numbers)
    patients = [_draw_patient(f"P_{number:05d}", role, rng) for number, role in zip(numbers, roles, strict=True)]
    patients = _add_second_lesions(patients, rng)
    return tuple(sorted(_plant_traps(patients, rng), key=lambda patient: patient.patient_id))


def _every(count: int, share: float, rng: np.random.Generator) -> list[bool]:
    """Return ``count`` flags of which ``share`` are true, spread so evenly that this holds for every stretch."""
    steps = np.floor(np.arange(count + 1) * share + rng.random())
    return [bool(step) for step in np.diff(steps)]


def _draw_roles(num_patients: int, rng: np.random.Generator) -> list[_Role]:
    """Hand out hospital, label, lesion type and split, each in proportion within the ones before it."""
    strata = []
    left = num_patients
    for site, share in SITE_SHARES.items():
        size = min(left, round(num_patients * share)) if site != tuple(SITE_SHARES)[-1] else left
        left -= size
        num_malignant = max(1, min(size - 1, round(size * MALIGNANT_SHARE)))
        strata += [(site, 1)] * num_malignant + [(site, 0)] * (size - num_malignant)
    is_mass = {label: iter(_every(num_patients, share, rng)) for label, share in MASS_SHARES.items()}
    types = [LesionType.MASS if next(is_mass[label]) else LesionType.CALCIFICATION for _, label in strata]
    ordered = sorted(zip(strata, types, strict=True))
    return [
        _Role(institution=site, label=label, lesion_type=kind, split=Split.TEST if is_test else Split.TRAIN)
        for ((site, label), kind), is_test in zip(ordered, _every(num_patients, TEST_SHARE, rng), strict=True)
    ]


def _draw_patient(patient_id: str, role: _Role, rng: np.random.Generator) -> Patient:
    pathology = _draw_pathology(role.label, role.lesion_type, rng)
    density = 1 + _draw_grade("density", role.lesion_type, pathology, rng)
    views = tuple(View) if rng.random() >= SINGLE_VIEW_SHARE else (tuple(View)[rng.integers(2)],)
    lesion = _draw_lesion(
        pathology,
        role.lesion_type,
        rng,
        place=_Place(
            split=role.split, laterality=tuple(Laterality)[rng.integers(2)], number=1, views=views, density=density
        ),
    )
    return Patient(
        patient_id=patient_id,
        institution=role.institution,
        series_letter=str(rng.choice(list(SERIES_LETTERS[role.institution]))),
        density=density,
        lesions=(lesion,),
    )


@dataclass(frozen=True, kw_only=True)
class _Place:
    split: Split
    laterality: Laterality
    number: int
    views: tuple[View, ...]
    density: int


def _draw_pathology(label: int, lesion_type: LesionType, rng: np.random.Generator) -> Pathology:
    if label:
        return Pathology.MALIGNANT
    is_clear = rng.random() < NO_CALLBACK_SHARES[lesion_type]
    return Pathology.BENIGN_WITHOUT_CALLBACK if is_clear else Pathology.BENIGN


def _draw_grade(name: str, lesion_type: LesionType, pathology: Pathology, rng: np.random.Generator) -> int:
    shares = np.array(GRADES[lesion_type][pathology][name])
    return int(rng.choice(len(shares), p=shares / shares.sum()))


def _draw_lesion(pathology: Pathology, lesion_type: LesionType, rng: np.random.Generator, *, place: _Place) -> Lesion:
    shares = DESCRIPTORS[lesion_type][pathology]
    weights = np.array(tuple(shares.values()))
    form, extent = tuple(shares)[rng.choice(len(shares), p=weights / weights.sum())].split(" ")
    return Lesion(
        lesion_type=lesion_type,
        split=place.split,
        laterality=place.laterality,
        number=place.number,
        views=place.views,
        pathology=pathology,
        recorded_density=place.density,
        form=_in_any_order(form, rng),
        extent=_in_any_order(extent, rng),
        assessment=_draw_grade("assessment", lesion_type, pathology, rng),
        subtlety=1 + _draw_grade("subtlety", lesion_type, pathology, rng),
        aggressiveness=float(rng.normal((pathology.label - 0.5) * HIDDEN_SEPARATION)),
    )


def _in_any_order(joined: str, rng: np.random.Generator) -> str:
    parts = joined.split("-")
    return "-".join(parts if rng.random() < 0.5 else reversed(parts))


def _at_least_one(share: float, count: int) -> int:
    return max(1, round(share * count))


def _add_second_lesions(patients: Sequence[Patient], rng: np.random.Generator) -> list[Patient]:
    """Give some patients a second lesion: of the other type in the other breast, or beside the first one.

    The first of them get it in the other split.
    """
    num_both = _at_least_one(BOTH_SPLITS_SHARE, len(patients))
    num_second = max(num_both + 2, round(SECOND_LESION_SHARE * len(patients)))
    result = list(patients)
    for order, index in enumerate(rng.permutation(len(patients))[:num_second]):
        patient = patients[index]
        lesion = _second_lesion(patient, rng, crosses=order < num_both, is_other=order % 2 == 0 or order < num_both)
        result[index] = dataclasses.replace(patient, lesions=(*patient.lesions, lesion))
    return result


def _second_lesion(patient: Patient, rng: np.random.Generator, *, crosses: bool, is_other: bool) -> Lesion:
    first = patient.lesions[0]
    kind = _other(first.lesion_type, LesionType) if is_other else first.lesion_type
    pathology = _draw_pathology(int(rng.random() < MALIGNANT_SHARE), kind, rng)
    place = _Place(
        split=_other(first.split, Split) if crosses else first.split,
        laterality=_other(first.laterality, Laterality) if is_other else first.laterality,
        number=1 if is_other else 2,
        views=first.views,
        density=patient.density,
    )
    return _draw_lesion(pathology, kind, rng, place=place)


def _other(value: Value, values: Iterable[Value]) -> Value:
    return next(other for other in values if other != value)


def _plant_traps(patients: Sequence[Patient], rng: np.random.Generator) -> list[Patient]:
    """Change a few rows so that every peculiarity of the official tables is there in the smallest cohort, too."""
    lesions = [lesion for patient in patients for lesion in patient.lesions]
    order = rng.permutation(len(lesions))
    for index in order[: _at_least_one(DENSITY_ZERO_SHARE, len(lesions))]:
        lesions[index] = dataclasses.replace(lesions[index], recorded_density=0)
    masses = [index for index in order if lesions[index].lesion_type is LesionType.MASS]
    masses.sort(key=lambda index: lesions[index].form not in {"ROUND", "OVAL"})
    for position, index in enumerate(masses[: 2 * _at_least_one(JOINED_SHARE / 2, len(masses))]):
        form = ("ROUND-OVAL", "OVAL-ROUND")[position % 2]
        lesions[index] = dataclasses.replace(lesions[index], form=form)
    num_empty = _at_least_one(EMPTY_SHARE, len(masses))
    for index in masses[-num_empty:]:
        lesions[index] = dataclasses.replace(lesions[index], form="")
    for index in masses[-2 * num_empty : -num_empty]:
        lesions[index] = dataclasses.replace(lesions[index], extent="")
    rest = iter(lesions)
    return [dataclasses.replace(patient, lesions=tuple(islice(rest, len(patient.lesions)))) for patient in patients]
