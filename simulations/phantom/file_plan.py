"""Which files a phantom consists of: series, folders and peculiarities of a download of CBIS-DDSM.

"PS3.x" is the DICOM standard, part x.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from shared_model.vocabulary import LesionType, Split, View
from simulations.phantom.patients import Lesion, Patient

FILM, CROP, MASK = "full mammogram images", "cropped images", "ROI mask images"
"""Series descriptions of CBIS-DDSM."""
SWAPPED_EVERY, OWN_MASK_SERIES_EVERY, RESIZED_MASK_EVERY = 7, 16, 12
"""One lesion view in so many has crop and mask swapped; has its mask in a series of its own (6 % of the mass rows of
CBIS-DDSM, none of the calcifications); or has a mask that is not of the film's size."""
RESIZED_MASK_SCALE = 0.9
"""Size of such a mask over that of the film."""

_FOLDER_DATE = "07-20-2016"
_UID_NAMESPACE = uuid.UUID("6d9d5f6c-5f0b-5d5c-9a44-0b9a3f7c1c11")
_TYPE_WORD = {LesionType.MASS: "Mass", LesionType.CALCIFICATION: "Calc"}
_SPLIT_WORD = {Split.TRAIN: "Training", Split.TEST: "Test"}


@dataclass(frozen=True, kw_only=True)
class Series:
    """One DICOM series and the folder in which it lies."""

    subject: str
    study_uid: str
    series_uid: str
    description: str
    """Part of the folder's name in the newer layout."""

    def folder(self, *, is_newer: bool) -> str:
        """Return the folder relative to the data root."""
        if not is_newer:
            return f"{self.subject}/{self.study_uid}/{self.series_uid}"
        study, series = int(self.study_uid[-5:]), int(self.series_uid[-5:])
        return f"{self.subject}/{_FOLDER_DATE}-DDSM-{study}/1.000000-{self.description}-{series}"


@dataclass(frozen=True, kw_only=True)
class LesionView:
    """One row of a table and where its three images lie."""

    patient: Patient
    lesion: Lesion
    view: View
    film: Series
    crop: Series
    mask: Series
    """Equal to ``crop`` where both share a series."""
    is_swapped: bool
    """The files' names and descriptions say crop where the mask is, and the other way round."""
    mask_scale: float
    """Size of the mask over that of the film."""

    @property
    def crop_number(self) -> int:
        """Which file of its series the table calls the crop, from 0."""
        return int(self.mask == self.crop and self.lesion.lesion_type is LesionType.CALCIFICATION)

    @property
    def mask_number(self) -> int:
        """Which file of its series the table calls the mask, from 0."""
        return 1 - self.crop_number if self.mask == self.crop else 0


def plan_views(patients: Iterable[Patient], seed: int) -> dict[str, tuple[LesionView, ...]]:
    """Return every patient's lesion views by identifier; every so many views get a peculiarity of the real files."""
    counts = dict.fromkeys(LesionType, 0)
    plan = {}
    for patient in patients:
        views = []
        for lesion in patient.lesions:
            for view in lesion.views:
                views.append(_plan_view(patient, lesion, view, seed=seed, view_number=counts[lesion.lesion_type]))
                counts[lesion.lesion_type] += 1
        plan[patient.patient_id] = tuple(views)
    return plan


def _plan_view(patient: Patient, lesion: Lesion, view: View, *, seed: int, view_number: int) -> LesionView:
    prefix = f"{_TYPE_WORD[lesion.lesion_type]}-{_SPLIT_WORD[lesion.split]}"
    film = f"{prefix}_{patient.patient_id}_{lesion.laterality}_{view}"
    subject = f"{film}_{lesion.number}"
    has_mask_series = lesion.lesion_type is LesionType.MASS and view_number % OWN_MASK_SERIES_EVERY == 5
    crop = _series(subject, CROP if has_mask_series else MASK, seed)
    return LesionView(
        patient=patient,
        lesion=lesion,
        view=view,
        film=_series(film, FILM, seed),
        crop=crop,
        mask=_series(subject, MASK, seed) if has_mask_series else crop,
        is_swapped=view_number % SWAPPED_EVERY == 3,
        mask_scale=RESIZED_MASK_SCALE if view_number % RESIZED_MASK_EVERY == 7 else 1.0,
    )


def _series(subject: str, description: str, seed: int) -> Series:
    study, series = (uid(seed, subject, description, level) for level in ("study", "series"))
    return Series(subject=subject, study_uid=study, series_uid=series, description=description)


def uid(seed: int, *names: str) -> str:
    """Return the DICOM unique identifier of ``names``, derived from a name-based UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(_UID_NAMESPACE, '/'.join((str(seed), *names))).int}"
