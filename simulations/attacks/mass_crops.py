"""Small images of synthetic masses, for an attack that tries to see them again."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from client.data.preprocessing import mask_box, resize, square_crop
from shared_model.system.seeding import numpy_generator
from shared_model.vocabulary import LesionType
from simulations.phantom.films import draw_film
from simulations.phantom.patients import Patient
from simulations.phantom.population import MIN_PATIENTS, draw_patients

_CONTEXT = 1.5
"""Side of the crop over the longer side of the mass's box."""


def draw_mass_crops(count: int, *, size: int, seed: int) -> Iterator[Tensor]:
    """Yield ``count`` crops ``(size, size)`` round synthetic masses, float32, stretched to [0, 1]."""
    patients = (patient for patient in draw_patients(MIN_PATIENTS * count, seed) if _has_mass(patient))
    for patient in islice(patients, count):
        lesion = patient.lesions[0]
        film = draw_film(
            [lesion],
            density=patient.density,
            view=lesion.views[0],
            laterality=lesion.laterality,
            rng=numpy_generator(seed, patient.patient_id),
        )
        crop = resize(square_crop(film.image, mask_box(film.masks[0]), _CONTEXT), size)
        pixels = torch.from_numpy(crop.astype(np.float32))
        yield (pixels - pixels.min()) / (pixels.max() - pixels.min())


def _has_mass(patient: Patient) -> bool:
    return patient.lesions[0].lesion_type is LesionType.MASS
