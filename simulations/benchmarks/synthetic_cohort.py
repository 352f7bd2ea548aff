"""The cohort that times are measured on: synthetic, of the size of ``preset=cbis_mass``.

Times do not depend on what the images show.
"""

import torch

from client.privacy.declared_size import declared_size
from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.privacy.plan import PrivacyPlan
from simulations.seeding import torch_generator

_MAX_LESIONS, _MEAN_FURTHER_LESIONS = 24, 0.9
"""Of a patient; the mean is of lesions beyond the first."""


def synthetic_cohort(num_patients: int, *, shape: tuple[int, ...], clinical_width: int) -> Lesions:
    """Return random lesions of ``num_patients`` patients, 1 to 24 each and about 2 on average, as CBIS-DDSM masses.

    Args:
        num_patients: at least 1.
        shape: of one lesion's cached features or pixels.
        clinical_width: length of the clinical vector.
    """
    generator = torch_generator(0, "benchmark")
    num_lesions = 1 + torch.poisson(torch.full((num_patients,), _MEAN_FURTHER_LESIONS), generator=generator).long()
    num_lesions[0] = _MAX_LESIONS
    count = int(num_lesions.sum())
    return Lesions(
        images=torch.rand((count, *shape), generator=generator),
        has_image=torch.ones(count, dtype=torch.bool),
        clinical=torch.rand((count, clinical_width), generator=generator),
        labels=(torch.rand(count, generator=generator) < 0.5).float(),
        patients=torch.repeat_interleave(torch.arange(num_patients), num_lesions),
    )


def cohort_config(*overrides: str) -> ExperimentConfig:
    """Return the configuration of ``preset=cbis_mass`` with the largest head, and with more overrides."""
    # All features make the largest head, and need no public lesions for components. Pixels need single views.
    fixed = ["preset=cbis_mass", "model.image_components=0", "data.views=own", "data.features=descriptors"]
    return compose([*fixed, "data.root=.", "privacy=patient", *overrides])


def cohort_plan(config: ExperimentConfig, num_patients: int) -> PrivacyPlan:
    """Return the plan of a site with ``num_patients`` training patients."""
    num_declared = declared_size(num_patients, config.privacy.cohort_rounding)
    return PrivacyPlan.calibrate(config, num_declared)
