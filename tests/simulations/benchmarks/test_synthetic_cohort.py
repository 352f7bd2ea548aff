import pytest
import torch

from shared_model.config.choices import PrivacyMode
from simulations.benchmarks.synthetic_cohort import cohort_config, cohort_plan, synthetic_cohort


def test_synthetic_cohort_has_the_size_of_cbis_ddsm_masses():
    lesions = synthetic_cohort(250, shape=(320,), clinical_width=20)
    _, sizes = torch.unique(lesions.patients, return_counts=True)
    assert lesions.num_patients == 250
    assert (int(sizes.min()), int(sizes.max())) == (1, 24)
    assert 1.7 < float(sizes.float().mean()) < 2.3
    assert lesions.images.shape == (len(lesions), 320)
    assert lesions.clinical.shape == (len(lesions), 20)
    again = synthetic_cohort(250, shape=(320,), clinical_width=20)
    assert torch.equal(lesions.images, again.images)


@pytest.mark.parametrize("shape", [(1,), (5,), (1, 8, 8)])
def test_images_have_the_shape_that_is_asked_for(shape):
    lesions = synthetic_cohort(10, shape=shape, clinical_width=3)
    assert lesions.images.shape == (len(lesions), *shape)
    assert 0 <= lesions.images.min() < lesions.images.max() <= 1
    assert bool(lesions.has_image.all())
    assert set(lesions.labels.tolist()) == {0.0, 1.0}


def test_the_configuration_is_the_presets_with_more_overrides():
    config = cohort_config("training.local_steps=7")
    assert (config.preset, config.training.local_steps) == ("cbis_mass", 7)
    assert config.privacy.mode is PrivacyMode.PATIENT
    # No public lesions are there to compute components from.
    assert config.model.image_components == 0


@pytest.mark.parametrize(("num_patients", "declared"), [(250, 250), (257, 250), (12, 10)])
def test_a_plan_is_made_for_the_declared_size(num_patients, declared):
    assert cohort_plan(cohort_config(), num_patients).num_patients_declared == declared
