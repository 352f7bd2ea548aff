import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from client.training.clipped_gradients import trainable_parameters
from client.training.dp_sgd import ROUNDING_MARGIN
from client.training.gradient_methods import GradientMethod, GradientSource, choose_gradient_method
from client.training.patients import LesionsByPatient
from shared_model.config.choices import Backbone, ConstantsFrom, FeatureEngine, Fusion, InitialHead, Loss, Modality
from shared_model.config.site_sections import ModelConfig
from shared_model.data.lesions import Lesions
from shared_model.network.fusion import build_network
from shared_model.network.heads import RowwiseLinear
from simulations.benchmarks.synthetic_cohort import synthetic_cohort
from tests.small_trainings import CONFIG, SIZES, Head, lesions_of, network_of

GHOST, RECORD, PATIENT = GradientMethod


def naive_sum(model, lesions, *, config=CONFIG, max_grad_norm=math.inf):
    """Return the clipped sum by explicit autograd over patients, flat."""
    total = 0
    for patient in sorted(set(lesions.patients.tolist())):
        rows = lesions.patients == patient
        logits = model(lesions.images[rows], lesions.has_image[rows], lesions.clinical[rows])
        labels = lesions.labels[rows]
        losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        losses = losses * torch.where(labels == 1, config.positive_weight, 1.0)
        if config.loss is Loss.FOCAL:
            chance = torch.where(labels == 1, torch.sigmoid(logits), torch.sigmoid(-logits))
            losses = losses * (1 - chance) ** config.focal_gamma
        found = torch.autograd.grad(losses.mean(), list(model.parameters()))
        gradient = torch.cat([values.flatten() for values in found]).double()
        total = total + gradient * min(1.0, max_grad_norm / float(gradient.norm()))
    return total


def clipped_sum(method, model, lesions, *, config=CONFIG, max_grad_norm=0.3, patients=None):
    """Return the clipped sum by ``method``, flat, and the number of patients rejected."""
    by_patient = LesionsByPatient.from_lesions(lesions)
    source = GradientSource(model=model, by_patient=by_patient, config=config, method=method)
    chosen = torch.nonzero(by_patient.is_finite).squeeze(1) if patients is None else patients
    gradients, num_rejected = source.clipped_sum(chosen, max_grad_norm)
    assert all(values.dtype == torch.float64 for values in gradients)
    return torch.cat([values.flatten() for values in gradients]), num_rejected


# All methods return the same


@pytest.mark.parametrize("max_grad_norm", [0.05, 0.3, math.inf])
@pytest.mark.parametrize("loss", Loss)
@pytest.mark.parametrize("hidden_width", [0, 8])
@pytest.mark.parametrize("method", GradientMethod)
def test_every_method_is_explicit_autograd(method, hidden_width, loss, max_grad_norm):
    lesions, model = lesions_of(SIZES), Head(hidden_width=hidden_width)
    config = dataclasses.replace(CONFIG, loss=loss, positive_weight=2.0)
    found, num_rejected = clipped_sum(method, model, lesions, config=config, max_grad_norm=max_grad_norm)
    expected = naive_sum(model, lesions, config=config, max_grad_norm=max_grad_norm)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert num_rejected == 0


@pytest.mark.parametrize("hidden_width", [0, 8])
@pytest.mark.parametrize("fusion", Fusion)
@pytest.mark.parametrize("modality", Modality)
def test_every_method_through_fusion_networks_is_explicit_autograd(modality, fusion, hidden_width):
    network = network_of(modality=modality, fusion=fusion, hidden_width=hidden_width)
    lesions = lesions_of(SIZES, shape=(320,))
    expected = naive_sum(network, lesions, max_grad_norm=0.2)
    for method in GradientMethod:
        found, _ = clipped_sum(method, network, lesions, max_grad_norm=0.2)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert choose_gradient_method(network, LesionsByPatient.from_lesions(lesions), CONFIG) is GHOST


@st.composite
def fused_lesions(draw):
    """Draw lesions of which some have no image, no clinical data, or neither, and a patient perhaps huge or not finite.

    Her neighbour's lesions may all be alike.
    """
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    lesions = lesions_of(sizes, shape=(320,), seed=draw(st.integers(0, 1000)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    lesions.clinical[torch.rand(len(lesions.labels), generator=generator) < draw(st.sampled_from([0, 0.3, 1]))] = 0
    lesions.images[torch.nonzero(lesions.patients == 0)[0]] *= draw(st.sampled_from([1.0, 0.0, 1e20, -1e38, math.nan]))
    if draw(st.booleans()):
        rows = lesions.patients == len(sizes) - 1
        for values in (lesions.images, lesions.clinical, lesions.has_image, lesions.labels):
            values[rows] = values[rows][:1].clone()
    return lesions


@settings(max_examples=60)
@given(
    lesions=fused_lesions(),
    fusion=st.sampled_from(Fusion),
    modality=st.sampled_from(Modality),
    hidden_width=st.sampled_from([0, 1, 5]),
    max_grad_norm=st.sampled_from([0.01, 0.3, 5.0]),
    is_tied=st.booleans(),
)
def test_ghost_norms_of_any_head_give_the_sum_of_one_pass_per_patient(
    lesions, fusion, modality, hidden_width, max_grad_norm, is_tied
):
    network = network_of(modality=modality, fusion=fusion, hidden_width=hidden_width)
    if is_tied:
        # A patient's gradient is exactly as long as it may be.
        alone, _ = clipped_sum(PATIENT, network, lesions.select(lesions.patients == 0), max_grad_norm=math.inf)
        max_grad_norm = float(alone.norm()) or max_grad_norm
    found, num_rejected = clipped_sum(GHOST, network, lesions, max_grad_norm=max_grad_norm)
    expected, expected_rejected = clipped_sum(PATIENT, network, lesions, max_grad_norm=max_grad_norm)
    assert num_rejected == expected_rejected
    assert float((found - expected).norm()) <= 1e-4 * max_grad_norm


@pytest.mark.parametrize("method", GradientMethod)
@pytest.mark.parametrize("fusion", Fusion)
def test_a_network_that_gives_no_number_for_some_patients_rejects_those_alone(fusion, method):
    network, lesions = network_of(fusion=fusion), lesions_of([3, 2, 4], shape=(320,))
    network.image_standardisation.projection[:2, 0] = 1
    lesions.images[:, :2] = 0
    lesions.has_image[:] = True
    expected, _ = clipped_sum(method, network, lesions.select(lesions.patients != 1))
    # Finite, but their sum is not.
    lesions.images[torch.nonzero(lesions.patients == 1)[0], :2] = 3e38
    found, num_rejected = clipped_sum(method, network, lesions)
    assert num_rejected == 1
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("fusion", Fusion)
@pytest.mark.parametrize("method", [RECORD, PATIENT])
def test_pixels_through_an_encoder(method, fusion):
    network = network_of(fusion=fusion, hidden_width=8, backbone=Backbone.SMALL_CNN)
    lesions = lesions_of([1, 3, 2], shape=(1, 32, 32))
    found, _ = clipped_sum(method, network, lesions, max_grad_norm=0.2)
    expected = naive_sum(network, lesions, max_grad_norm=0.2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", GradientMethod)
def test_frozen_parts(method):
    model = Head(hidden_width=4)
    model.layers[0].weight.requires_grad_(requires_grad=False)
    model.layers[2].bias.requires_grad_(requires_grad=False)
    lesions = lesions_of(SIZES)
    expected = naive_sum(Head(hidden_width=4), lesions)
    found, _ = clipped_sum(method, model, lesions, max_grad_norm=math.inf)
    torch.testing.assert_close(found, expected[36:44], rtol=1e-5, atol=1e-6)
    clipped, _ = clipped_sum(method, model, lesions.select(lesions.patients == 2), max_grad_norm=1e-3)
    # Clipped by the length of the trained parts alone.
    assert float(clipped.norm()) == pytest.approx(1e-3, rel=1e-6)


@pytest.mark.parametrize("method", GradientMethod)
def test_no_patients_sum_to_zero(method):
    for lesions in (lesions_of([1, 2]), lesions_of([])):
        found, num_rejected = clipped_sum(method, Head(), lesions, patients=torch.zeros(0, dtype=torch.long))
        assert torch.equal(found, torch.zeros(10, dtype=torch.float64))
        assert num_rejected == 0


# What one patient can do


@st.composite
def spoilt_lesions(draw):
    """Draw lesions, the first patient's possibly huge or not finite."""
    sizes = draw(st.lists(st.integers(1, 24), min_size=2, max_size=8))
    lesions = lesions_of(sizes, seed=draw(st.integers(0, 1000)), scale=draw(st.sampled_from([1e-3, 1.0, 1e3])))
    value = draw(st.sampled_from([None, 1e4, 1e20, -3e38, math.inf, math.nan]))
    if value is not None:
        rows = torch.nonzero(lesions.patients == 0).squeeze(1)
        lesions.images[rows[0]] *= value
        lesions.clinical[rows[-1], 0] = value
    return lesions


@settings(max_examples=50)
@given(
    lesions=spoilt_lesions(),
    removed=st.integers(0, 1),
    hidden_width=st.sampled_from([0, 3]),
    max_grad_norm=st.floats(0.05, 5),
)
@pytest.mark.parametrize("method", GradientMethod)
def test_one_patient_moves_the_sum_by_at_most_the_clipping_norm(method, lesions, removed, hidden_width, max_grad_norm):
    model = Head(hidden_width=hidden_width)
    with_patient, _ = clipped_sum(method, model, lesions, max_grad_norm=max_grad_norm)
    without, _ = clipped_sum(method, model, lesions.select(lesions.patients != removed), max_grad_norm=max_grad_norm)
    # The last bits of the others' float32 passes may change with the batch, but not where each has a pass of its own.
    tolerance = 1e-6 if method is PATIENT else ROUNDING_MARGIN
    assert float((with_patient - without).norm()) <= max_grad_norm * (1 + tolerance)


@pytest.mark.parametrize("fusion", Fusion)
@pytest.mark.parametrize("method", [GHOST, RECORD])
def test_rounding_in_another_batch_stays_far_below_the_margin_for_a_whole_hospital(method, fusion):
    lesions = synthetic_cohort(250, shape=(320,), clinical_width=20)
    model = build_network(
        ModelConfig(
            modality=Modality.FUSION,
            fusion=fusion,
            backbone=Backbone.EFFICIENTNET_LITE0,
            feature_engine=FeatureEngine.TORCH,
            feature_constants=ConstantsFrom.PUBLIC,
            constants_file=None,
            initial_head=InitialHead.ZERO,
            image_components=0,
            hidden_width=8,
        ),
        20,
        seed=0,
    )
    whole, _ = clipped_sum(method, model, lesions, max_grad_norm=0.01)
    for removed in (0, 1, 100, 249):
        rest, _ = clipped_sum(method, model, lesions.select(lesions.patients != removed), max_grad_norm=0.01)
        alone, _ = clipped_sum(PATIENT, model, lesions.select(lesions.patients == removed), max_grad_norm=0.01)
        assert float((whole - rest - alone).norm()) <= 0.01 * ROUNDING_MARGIN / 5


class Parts(nn.Module):
    """Six layers without bias, each on columns of its own: a record of zeros has a gradient of zero."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(RowwiseLinear(3, 1, bias=False) for _ in range(6))

    def forward(self, images, has_image, clinical):
        columns = images.split(3, dim=1)
        return sum(layer(values) for layer, values in zip(self.layers, columns, strict=True)).squeeze(1)


@pytest.mark.parametrize("method", GradientMethod)
def test_not_a_bit_of_a_clipped_gradient_depends_on_the_patients_place_in_the_batch(method):
    """Squared lengths of many layers are added up in one order, whichever column they stand in."""
    # The last patients stand where no full vector of patients is left.
    sizes, generator = [4, *[1] * 252], torch.Generator().manual_seed(1)
    for _ in range(8):
        row, found = torch.randn(18, generator=generator), []
        for patient in (1, 100, 250, 251, 252):
            is_hers = torch.repeat_interleave(torch.tensor(sizes)) == patient
            lesions = dataclasses.replace(
                lesions_of(sizes, shape=(18,)),
                images=is_hers.unsqueeze(1) * row,
                has_image=torch.ones(256, dtype=torch.bool),
                labels=torch.zeros(256),
                patients=torch.repeat_interleave(torch.tensor(sizes)),
            )
            found.append(clipped_sum(method, Parts(), lesions, max_grad_norm=0.01)[0])
        assert all(torch.equal(other, found[0]) for other in found)


@pytest.mark.parametrize("method", GradientMethod)
@pytest.mark.parametrize("scale", [1.0, 1e10, 1e18])
def test_a_huge_patient_whose_lesions_almost_cancel_is_clipped(method, scale):
    lesions = lesions_of([24], scale=scale)
    half = lesions.select(torch.arange(12))
    pairs = Lesions(
        images=torch.cat([half.images, half.images * (1 + 1e-6)]),
        has_image=torch.ones(24, dtype=torch.bool),
        clinical=torch.cat([half.clinical, half.clinical]),
        labels=torch.cat([torch.zeros(12), torch.ones(12)]),
        patients=torch.zeros(24, dtype=torch.long),
    )
    model = Head()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    found, num_rejected = clipped_sum(method, model, pairs, max_grad_norm=1e-9)
    assert num_rejected == 0
    assert 0 < float(found.norm()) <= 1e-9 * (1 + 1e-6)


@pytest.mark.parametrize("method", GradientMethod)
@pytest.mark.parametrize("max_grad_norm", [1e-10, 1e-14, 1e-16, 1e-18])
def test_patients_whose_lesions_cancel_wipe_nothing_out_of_the_others_sum(method, max_grad_norm):
    """With a saturated hidden layer and no weights behind it, a benign and a malignant lesion cancel to the last bit.

    Earlier their terms, 10^15 clipping norms long, took the last bits of everybody else's: with so small a norm, one
    patient moved the sum by a tenth more than it.
    """
    generator = torch.Generator().manual_seed(1)
    sizes = (2 * torch.randint(0, 3, (300,), generator=generator)).clamp_min(1).tolist()
    lesions, network = lesions_of(sizes, shape=(320,)), network_of(modality=Modality.IMAGE, hidden_width=64)
    lesions.has_image[:] = True
    for patient, size in enumerate(sizes):
        if size > 1:
            order = torch.randperm(size, generator=generator)
            lesions.labels[lesions.patients == patient] = (torch.arange(size) % 2).float()[order]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.fill_(1e4 if "bias" in name else 0)
    whole, _ = clipped_sum(method, network, lesions, max_grad_norm=max_grad_norm)
    for removed in (*range(8), 149, 150, 298, 299):
        rest, _ = clipped_sum(method, network, lesions.select(lesions.patients != removed), max_grad_norm=max_grad_norm)
        assert float((whole - rest).norm()) <= max_grad_norm * (1 + 1e-6)


class Root(nn.Module):
    """Not a number for a negative image, although the image is finite."""

    def __init__(self):
        super().__init__()
        self.output = nn.Linear(6, 1)

    def forward(self, images, has_image, clinical):
        return self.output(images.sqrt()).squeeze(1)


@pytest.mark.parametrize("method", GradientMethod)
def test_a_patient_without_finite_gradient_is_rejected_alone(method):
    torch.manual_seed(0)
    model, lesions = Root(), lesions_of([2, 3, 1])
    lesions.images.abs_()
    expected, _ = clipped_sum(method, model, lesions.select(lesions.patients != 1))
    lesions.images[torch.nonzero(lesions.patients == 1)[1], 2] = -1
    source = GradientSource(
        model=model, by_patient=LesionsByPatient.from_lesions(lesions), config=CONFIG, method=method
    )
    found, num_rejected = clipped_sum(method, model, lesions)
    assert num_rejected == 1
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    unclipped, _ = clipped_sum(method, model, lesions.select(lesions.patients != 1), max_grad_norm=math.inf)
    plain, num_rejected = source.plain_sum(torch.arange(3))
    assert num_rejected == 1
    torch.testing.assert_close(torch.cat([v.flatten() for v in plain]), unclipped, rtol=1e-6, atol=1e-8)


def test_a_model_must_have_something_to_train():
    with pytest.raises(ValueError, match="at least one trainable parameter"):
        trainable_parameters(Head().requires_grad_(requires_grad=False))
