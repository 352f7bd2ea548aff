"""Removing one patient moves the clipped sum by one clipping norm at most, whatever parameters a coordinator sends.

The attack: parameters under which the logits of some patients cancel exactly, so that they consist of rounding alone.
If the last bits of a row depended on how many rows the pass has, the removal of one patient would flip the gradients of
others between 0 and the clipping norm.
"""

import numpy as np
import pytest
import torch

from client.training.gradient_methods import GradientMethod, GradientSource, choose_gradient_method
from client.training.patients import LesionsByPatient
from shared_model.config import compose
from shared_model.data.lesions import Lesions
from shared_model.network import build_network, trainable_state
from shared_model.network.scoring import predict
from shared_model.network.state import load_constants, load_trainable
from shared_model.vocabulary import clinical_width
from tests.first_release import PUBLIC_PATIENTS

CLIP = 0.25
NUM_PATIENTS = 150


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def cohort(width, *, pixels=None, num_patients=NUM_PATIENTS):
    generator = torch.Generator().manual_seed(1)
    sizes = torch.randint(1, 4, (num_patients,), generator=generator)
    # The last patients, whose logits cancel, have one lesion each: as many as possible flip together.
    sizes[-6:] = 1
    patients = torch.repeat_interleave(torch.arange(num_patients), sizes)
    shape = (len(patients), 320) if pixels is None else (len(patients), 1, pixels, pixels)
    return Lesions(
        images=torch.randn(shape, generator=generator).abs(),
        has_image=torch.ones(len(patients), dtype=torch.bool),
        clinical=torch.rand(len(patients), width, generator=generator) * 2 - 1,
        labels=(torch.rand(len(patients), generator=generator) < 0.5).float(),
        patients=patients,
    )


def network_for(*overrides):
    config = compose(["preset=cbis_mass", *PUBLIC_PATIENTS, "data.root=.", *overrides])
    network = build_network(config.model, clinical_width(config.data.features), seed=0)
    if config.model.backbone.is_frozen and config.model.modality != "clinical":
        components = config.model.image_components or 320
        directions = np.linalg.qr(np.random.default_rng(0).normal(size=(320, components)))[0].astype(np.float32)
        names = ("image_standardisation.mean", "image_standardisation.projection")
        load_constants(network, dict(zip(names, (np.zeros(320, np.float32), directions), strict=True)))
    return network, config


def clipped_sum(network, lesions, config, method):
    source = GradientSource(
        model=network, by_patient=LesionsByPatient.from_lesions(lesions), config=config.training, method=method
    )
    everyone = torch.arange(len(source.by_patient.sizes))
    return torch.cat([values.flatten() for values in source.clipped_sum(everyone, CLIP).gradients])


def what_logit_layers_read(network, lesions):
    """Return of every layer with one output the rows that it reads, float64."""
    read = {}
    handles = [
        module.register_forward_pre_hook(lambda _, arguments, name=name: read.update({name: arguments[0].detach()}))
        for name, module in network.named_modules()
        if name.endswith("linear") and module.out_features == 1
    ]
    with torch.no_grad():
        network(lesions.images, lesions.has_image, lesions.clinical)
    for handle in handles:
        handle.remove()
    return {name: values.double().numpy() for name, values in read.items()}


def cancelling(rows, generator, magnitude):
    """Return weights that are orthogonal to ``rows`` and as long as allowed: what is left of a logit is rounding."""
    weights = generator.normal(size=rows.shape[1])
    for _ in range(3):
        weights -= rows.T @ np.linalg.lstsq(rows.T, weights, rcond=None)[0]
    return (weights * magnitude / np.abs(weights).max()).astype(np.float32)[None]


def largest_move(network, config, lesions, method, *, num_trials, magnitude, seed=0):
    """Return the largest change of the clipped sum over removed patients and hostile parameters, in clipping norms."""
    generator = np.random.default_rng(seed)
    state = trainable_state(network)
    hostile = {name: generator.normal(size=values.shape).astype(np.float32) for name, values in state.items()}
    load_trainable(network, hostile)
    worst = 0.0
    for _ in range(num_trials):
        count = int(generator.integers(2, 7))
        hostile |= {
            f"{name}.weight": cancelling(rows[-count:], generator, magnitude)
            for name, rows in what_logit_layers_read(network, lesions).items()
        }
        load_trainable(network, hostile)
        removed = int(generator.integers(0, int(lesions.patients.max()) - 6))
        without = lesions.select(lesions.patients != removed)
        difference = clipped_sum(network, lesions, config, method) - clipped_sum(network, without, config, method)
        worst = max(worst, float(difference.norm()) / CLIP)
    return worst


SHAPES = [
    pytest.param(("model.fusion=early", "model.image_components=64"), id="early"),
    pytest.param(("model.fusion=early", "model.image_components=64", "model.hidden_width=8"), id="early, hidden layer"),
    pytest.param(("model.fusion=mid", "model.image_components=16"), id="mid"),
    pytest.param(("model.fusion=mid", "model.image_components=16", "model.hidden_width=8"), id="mid, hidden layer"),
    pytest.param(("model.fusion=late", "model.image_components=64"), id="late"),
    pytest.param(("model.modality=image", "model.image_components=0"), id="image alone"),
    pytest.param(("model.modality=clinical", "data.features=descriptors"), id="columns alone"),
]


@pytest.mark.parametrize("overrides", SHAPES)
def test_one_patient_moves_the_sum_by_one_clipping_norm(threads, overrides):
    network, config = network_for(*overrides)
    lesions = cohort(clinical_width(config.data.features))
    method = choose_gradient_method(network, LesionsByPatient.from_lesions(lesions), config.training)
    assert largest_move(network, config, lesions, method, num_trials=6, magnitude=1e9) <= 1 + 1e-6


@pytest.mark.parametrize("overrides", [SHAPES[0], SHAPES[4], SHAPES[6]])
@pytest.mark.parametrize("method", [GradientMethod.RECORD, GradientMethod.PATIENT])
def test_by_the_other_methods(threads, overrides, method):
    network, config = network_for(*overrides)
    lesions = cohort(clinical_width(config.data.features), num_patients=40)
    assert largest_move(network, config, lesions, method, num_trials=4, magnitude=1e9) <= 1 + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("method", [GradientMethod.RECORD, GradientMethod.PATIENT])
def test_of_networks_that_read_pixels(threads, method):
    network, config = network_for("data.views=own", "model.backbone=small_cnn", "model.image_components=0")
    lesions = cohort(clinical_width(config.data.features), pixels=32, num_patients=12)
    assert largest_move(network, config, lesions, method, num_trials=2, magnitude=1e4) <= 1 + 1e-6


@pytest.mark.parametrize("num_components", [1, 3, 5, 9, 11])
def test_constants_under_which_image_vectors_are_rounding(num_components):
    """One column that cancels some patients' features: their unit vectors are the sign of rounding."""
    network, config = network_for("model.modality=image", f"model.image_components={num_components}")
    lesions = cohort(clinical_width(config.data.features), num_patients=128)
    load_trainable(network, {name: np.ones_like(values) for name, values in trainable_state(network).items()})
    generator, worst = np.random.default_rng(0), 0.0
    method = choose_gradient_method(network, LesionsByPatient.from_lesions(lesions), config.training)
    for _ in range(4):
        projection = np.zeros((320, num_components), np.float32)
        projection[:, 0] = cancelling(lesions.images[-5:].double().numpy(), generator, 1e4)[0]
        names = ("image_standardisation.mean", "image_standardisation.projection")
        load_constants(network, dict(zip(names, (np.zeros(320, np.float32), projection), strict=True)))
        everybody, scores = clipped_sum(network, lesions, config, method), predict(network, lesions)
        for removed in (0, 17, 60):
            is_kept = lesions.patients != removed
            rest = lesions.select(is_kept)
            difference = everybody - clipped_sum(network, rest, config, method)
            worst = max(worst, float(difference.norm()) / CLIP)
            np.testing.assert_array_equal(predict(network, rest), scores[is_kept.numpy()])
    assert worst <= 1 + 1e-6


class PositionSensitive(torch.nn.Module):
    """Adds up the last row of a batch in another order, as some kernels do."""

    def __init__(self, width):
        super().__init__()
        self.linear = torch.nn.Linear(width, 1, bias=False)

    def forward(self, images, has_image, clinical):
        logits = self.linear(clinical).squeeze(-1)
        return torch.cat((logits[:-1], (clinical[-1:] * self.linear.weight).flip(-1).cumsum(-1)[:, -1]))


def test_a_method_under_which_positions_differ_is_not_chosen():
    lesions = cohort(97)
    by_patient = LesionsByPatient.from_lesions(lesions)
    config = network_for()[1].training
    assert choose_gradient_method(PositionSensitive(97), by_patient, config) is not GradientMethod.GHOST


@pytest.mark.parametrize("overrides", SHAPES[:1] + SHAPES[-3:])
def test_scores_do_not_depend_on_who_else_is_scored(threads, overrides):
    network, config = network_for(*overrides)
    lesions = cohort(clinical_width(config.data.features))
    generator = np.random.default_rng(0)
    load_trainable(network, {n: 1e4 * generator.normal(size=v.shape) for n, v in trainable_state(network).items()})
    scores = predict(network, lesions)
    for removed in range(0, NUM_PATIENTS, 40):
        is_kept = lesions.patients != removed
        np.testing.assert_array_equal(predict(network, lesions.select(is_kept)), scores[is_kept.numpy()])
