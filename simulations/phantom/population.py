"""Draws synthetic patients and their lesions from the shares of ``distributions``.

Numbers of patients are met exactly in every hospital, so that a small data set holds both classes everywhere.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np

from shared_model.system.seeding import numpy_generator
from shared_model.vocabulary import Laterality, LesionType, Pathology, Split, View
from simulations.phantom.distributions import (
    AGGRESSIVENESS_SEPARATION,
    BOTH_SPLITS_SHARE,
    DENSITY_ZERO_SHARE,
    DESCRIPTORS,
    EMPTY_SHARE,
    GRADES,
    JOINED_SHARE,
    MALIGNANT_SHARE,
    MASS_SHARES,
    NO_CALLBACK_SHARES,
    SECOND_LESION_SHARE,
    SERIES_LETTERS,
    SINGLE_VIEW_SHARE,
    SITE_SHARES,
    TEST_SHARE,
)
from simulations.phantom.patients import Lesion, Patient

MIN_PATIENTS = 12
"""The smallest hospital then has two patients, one of each class."""
MAX_PATIENTS = 20_000
"""Above this the patient numbers would outgrow the five digits of CBIS-DDSM."""

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class _Stratum:
    """What is fixed about a patient before anything is drawn."""

    institution: str
    label: int
    lesion_type: LesionType
    split: Split


def draw_patients(num_patients: int, seed: int) -> tuple[Patient, ...]:
    """Draw ``num_patients`` patients, sorted by identifier; the same arguments give the same patients.

    Raises:
        ValueError: ``num_patients`` is out of bounds.
    """
    if not MIN_PATIENTS <= num_patients <= MAX_PATIENTS:
        raise ValueError(f"Expected num_patients={num_patients} in [{MIN_PATIENTS}, {MAX_PATIENTS}].")
    rng = numpy_generator(seed, "phantom", "cohort")
    strata = _strata(num_patients, rng)
    numbers = np.sort(rng.choice(np.arange(1, 4 * num_patients + 1), num_patients, replace=False))
    rng.shuffle(numbers)
    patients = [_draw_patient(f"P_{number:05d}", stratum, rng) for number, stratum in zip(numbers, strata, strict=True)]
    patients = _add_second_lesions(patients, rng)
    return tuple(sorted(_add_table_peculiarities(patients, rng), key=lambda patient: patient.patient_id))


def _evenly_spread(count: int, share: float, rng: np.random.Generator) -> list[bool]:
    """Return ``count`` flags of which ``share`` are true, spread so evenly that this holds for every stretch."""
    steps = np.floor(np.arange(count + 1) * share + rng.random())
    return [bool(step) for step in np.diff(steps)]


def _strata(num_patients: int, rng: np.random.Generator) -> list[_Stratum]:
    """Return hospital, label, lesion type and split of every patient, each in proportion within the ones before it."""
    labels = []
    left = num_patients
    for site, share in SITE_SHARES.items():
        size = min(left, round(num_patients * share)) if site != tuple(SITE_SHARES)[-1] else left
        left -= size
        num_malignant = max(1, min(size - 1, round(size * MALIGNANT_SHARE)))
        labels += [(site, 1)] * num_malignant + [(site, 0)] * (size - num_malignant)
    is_mass = {label: iter(_evenly_spread(num_patients, share, rng)) for label, share in MASS_SHARES.items()}
    types = [LesionType.MASS if next(is_mass[label]) else LesionType.CALCIFICATION for _, label in labels]
    ordered = sorted(zip(labels, types, strict=True))
    splits = [Split.TEST if is_test else Split.TRAIN for is_test in _evenly_spread(num_patients, TEST_SHARE, rng)]
    return [
        _Stratum(institution=site, label=label, lesion_type=lesion_type, split=split)
        for ((site, label), lesion_type), split in zip(ordered, splits, strict=True)
    ]


def _draw_patient(patient_id: str, stratum: _Stratum, rng: np.random.Generator) -> Patient:
    pathology = _draw_pathology(stratum.label, stratum.lesion_type, rng)
    density = 1 + _draw_grade("density", stratum.lesion_type, pathology, rng)
    views = tuple(View) if rng.random() >= SINGLE_VIEW_SHARE else (tuple(View)[rng.integers(2)],)
    lesion = _draw_lesion(
        pathology,
        stratum.lesion_type,
        rng,
        examination=_Examination(
            split=stratum.split, laterality=tuple(Laterality)[rng.integers(2)], number=1, views=views, density=density
        ),
    )
    return Patient(
        patient_id=patient_id,
        institution=stratum.institution,
        series_letter=str(rng.choice(list(SERIES_LETTERS[stratum.institution]))),
        density=density,
        lesions=(lesion,),
    )


@dataclass(frozen=True, kw_only=True)
class _Examination:
    """What is known of a lesion before anybody looks at it."""

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


def _draw_lesion(
    pathology: Pathology, lesion_type: LesionType, rng: np.random.Generator, *, examination: _Examination
) -> Lesion:
    shares = DESCRIPTORS[lesion_type][pathology]
    weights = np.array(tuple(shares.values()))
    descriptors = tuple(shares)[rng.choice(len(shares), p=weights / weights.sum())]
    shape_or_type, margins_or_distribution = descriptors.split(" ")
    return Lesion(
        lesion_type=lesion_type,
        split=examination.split,
        laterality=examination.laterality,
        number=examination.number,
        views=examination.views,
        pathology=pathology,
        recorded_density=examination.density,
        shape_or_type=_in_any_order(shape_or_type, rng),
        margins_or_distribution=_in_any_order(margins_or_distribution, rng),
        assessment=_draw_grade("assessment", lesion_type, pathology, rng),
        subtlety=1 + _draw_grade("subtlety", lesion_type, pathology, rng),
        aggressiveness=float(rng.normal((pathology.label - 0.5) * AGGRESSIVENESS_SEPARATION)),
    )


def _in_any_order(joined: str, rng: np.random.Generator) -> str:
    """Return values joined by ``-`` in their order or in the reverse one, as the official tables have both."""
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
        in_other_split = order < num_both
        is_other_type = in_other_split or order % 2 == 0
        lesion = _second_lesion(patient, rng, in_other_split=in_other_split, is_other_type=is_other_type)
        result[index] = dataclasses.replace(patient, lesions=(*patient.lesions, lesion))
    return result


def _second_lesion(patient: Patient, rng: np.random.Generator, *, in_other_split: bool, is_other_type: bool) -> Lesion:
    first = patient.lesions[0]
    lesion_type = _other(first.lesion_type, LesionType) if is_other_type else first.lesion_type
    pathology = _draw_pathology(int(rng.random() < MALIGNANT_SHARE), lesion_type, rng)
    examination = _Examination(
        split=_other(first.split, Split) if in_other_split else first.split,
        laterality=_other(first.laterality, Laterality) if is_other_type else first.laterality,
        number=1 if is_other_type else 2,
        views=first.views,
        density=patient.density,
    )
    return _draw_lesion(pathology, lesion_type, rng, examination=examination)


def _other(value: Value, values: Iterable[Value]) -> Value:
    return next(other for other in values if other != value)


def _add_table_peculiarities(patients: Sequence[Patient], rng: np.random.Generator) -> list[Patient]:
    """Change a few rows so that the smallest data set has every peculiarity of the official tables, too."""
    lesions = [lesion for patient in patients for lesion in patient.lesions]
    order = rng.permutation(len(lesions))
    for index in order[: _at_least_one(DENSITY_ZERO_SHARE, len(lesions))]:
        lesions[index] = dataclasses.replace(lesions[index], recorded_density=0)
    masses = [index for index in order if lesions[index].lesion_type is LesionType.MASS]
    masses.sort(key=lambda index: lesions[index].shape_or_type not in {"ROUND", "OVAL"})
    for position, index in enumerate(masses[: 2 * _at_least_one(JOINED_SHARE / 2, len(masses))]):
        joined = ("ROUND-OVAL", "OVAL-ROUND")[position % 2]
        lesions[index] = dataclasses.replace(lesions[index], shape_or_type=joined)
    num_empty = _at_least_one(EMPTY_SHARE, len(masses))
    for index in masses[-num_empty:]:
        lesions[index] = dataclasses.replace(lesions[index], shape_or_type="")
    for index in masses[-2 * num_empty : -num_empty]:
        lesions[index] = dataclasses.replace(lesions[index], margins_or_distribution="")
    remaining = iter(lesions)
    return [
        dataclasses.replace(patient, lesions=tuple(islice(remaining, len(patient.lesions)))) for patient in patients
    ]
