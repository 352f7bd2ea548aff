import copy
import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from client.training.dp_sgd import ROUNDING_MARGIN, LocalTraining, PatientOptimizer, draw_patients, train_round
from client.training.gradient_methods import GradientMethod
from client.training.noise import NoiseGenerator
from client.training.patients import LesionsByPatient
from shared_model.config.choices import Loss
from shared_model.data.lesions import Lesions
from shared_model.errors import PrivacyError
from shared_model.privacy.plan import PrivacyPlan
from tests.small_trainings import CONFIG

SILENT = 1e-12
"""A noise multiplier that leaves the clipped sum visible."""


def plan_of(config=CONFIG, *, noise_multiplier=SILENT, max_grad_norm=0.1, num_patients_declared=10):
    return PrivacyPlan(
        noise_multiplier=noise_multiplier,
        sampling_rate=config.sampling_rate,
        max_grad_norm=max_grad_norm,
        delta=1e-4,
        target_epsilon=8.0,
        num_rounds=1,
        steps_per_round=config.local_steps,
        num_patients_declared=num_patients_declared,
    )


class Head(nn.Module):
    """Image and clinical columns side by side, through an optional hidden layer, to a logit."""

    def __init__(self, num_inputs, hidden_width=0, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        layers = [nn.Linear(num_inputs, 1)]
        if hidden_width:
            layers = [nn.Linear(num_inputs, hidden_width), nn.Tanh(), nn.Linear(hidden_width, 1)]
        self.layers = nn.Sequential(*layers)
        self.image_bias = nn.Parameter(torch.zeros(()))

    def forward(self, images, has_image, clinical):
        images = images.flatten(1) * has_image.unsqueeze(1)
        return self.layers(torch.cat([images, clinical], 1)).squeeze(1) + self.image_bias * has_image


class IndexingHead(Head):
    """The same, written so that torch cannot vectorise it."""

    def forward(self, images, has_image, clinical):
        logits = super().forward(torch.zeros_like(images), torch.zeros_like(has_image), clinical)
        rows = torch.nonzero(has_image).squeeze(1)
        seen = super().forward(images[rows], has_image[rows], clinical[rows])
        return logits.index_put((rows,), seen)


class Constant(nn.Module):
    """Parameters ``(width,)`` whose gradient is the same for every lesion of label 0 while they are all zero."""

    def __init__(self, width):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(width))

    def forward(self, images, has_image, clinical):
        return self.weights.sum().expand(len(images))


def lesions_of(sizes, *, seed=0, width=6, scale=1.0, pixels=False):
    generator = torch.Generator().manual_seed(seed)
    patients = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.long))
    patients = patients[torch.randperm(len(patients), generator=generator)]
    count = len(patients)
    has_image = torch.rand(count, generator=generator) < 0.8
    images = torch.randn((count, 1, 2, width // 2) if pixels else (count, width), generator=generator) * scale
    return Lesions(
        images=images * has_image.view(-1, *[1] * (images.ndim - 1)),
        has_image=has_image,
        clinical=torch.randn((count, 3), generator=generator) * scale,
        labels=(torch.rand(count, generator=generator) < 0.5).float(),
        patients=patients * 7 + 3,
    )


def lesions_at(rows, labels, patients):
    rows = torch.tensor(rows)
    return Lesions(
        images=rows,
        has_image=torch.ones(len(rows), dtype=torch.bool),
        clinical=torch.zeros(len(rows), 1),
        labels=torch.tensor(labels),
        patients=torch.tensor(patients),
    )


def trained(model, lesions, *, config=CONFIG, plan=None, proximal_mu=0.0, method=None, seed=0):
    """Return a trained copy of ``model`` and the facts of the round."""
    model = copy.deepcopy(model)
    training = LocalTraining(config=config, plan=plan, proximal_mu=proximal_mu, gradient_method=method)
    facts = train_round(model, lesions, training=training, noise=NoiseGenerator.from_seed(seed))
    return model, facts


def flat(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def naive_patient_gradients(model, lesions, config=CONFIG):
    """Return ``{patient: flat gradient}`` of the mean loss over each patient's lesions, by explicit autograd."""
    gradients = {}
    for patient in sorted(set(lesions.patients.tolist())):
        rows = [row for row, owner in enumerate(lesions.patients.tolist()) if owner == patient]
        logits = model(lesions.images[rows], lesions.has_image[rows], lesions.clinical[rows])
        losses = nn.functional.binary_cross_entropy_with_logits(logits, lesions.labels[rows], reduction="none")
        losses = losses * torch.where(lesions.labels[rows] == 1, config.positive_weight, 1.0)
        if config.loss is Loss.FOCAL:
            chance = torch.sigmoid(logits)
            of_truth = torch.where(lesions.labels[rows] == 1, chance, 1 - chance)
            losses = losses * (1 - of_truth) ** config.focal_gamma
        found = torch.autograd.grad(losses.sum() / len(rows), list(model.parameters()))
        gradients[patient] = torch.cat([values.flatten() for values in found])
    return gradients


def naive_clipped_sum(gradients, max_grad_norm):
    return sum(values * min(1.0, max_grad_norm / float(values.norm())) for values in gradients.values())


# One private step


def test_clipping_by_hand():
    # At zero weights the gradient of a benign lesion x is x / 2 for the weight, and 1 / 2 for each of two biases.
    lesions = lesions_at([[8.0, 6.0], [0.0, 0.2], [0.0, 0.6]], [0.0, 0.0, 0.0], [1, 2, 2])
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(2))
    model.forward = lambda images, has_image, clinical: images @ model.weight
    plan = plan_of(max_grad_norm=1.0, num_patients_declared=2)
    train_round(model, lesions, training=LocalTraining(config=CONFIG, plan=plan), noise=NoiseGenerator.from_seed(0))
    # Patient 1: (4, 3) has length 5 and becomes (0.8, 0.6). Patient 2: the mean of (0, 0.1) and (0, 0.3) is kept.
    assert model.weight.tolist() == pytest.approx([-0.8 / 2, -(0.6 + 0.2) / 2], rel=1e-5)


@pytest.mark.parametrize("kind", [Head, IndexingHead])
@pytest.mark.parametrize("pixels", [False, True])
def test_step_is_the_naive_clipped_mean(kind, pixels):
    lesions, model = lesions_of([1, 2, 24, 3, 1, 5], pixels=pixels), kind(9, hidden_width=4)
    plan = plan_of(max_grad_norm=0.3, num_patients_declared=4)
    after, facts = trained(model, lesions, plan=plan)
    expected = naive_clipped_sum(naive_patient_gradients(model, lesions), 0.3) / 4
    torch.testing.assert_close(flat(model) - flat(after), expected, rtol=1e-4, atol=1e-6)
    assert (facts.num_steps, facts.num_draws, facts.num_rejected_draws) == (1, 6, 0)


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(1, 24), min_size=2, max_size=8),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    max_grad_norm=st.floats(0.05, 5),
    data=st.data(),
)
def test_one_patient_moves_the_sum_by_at_most_the_clipping_norm(sizes, seed, scale, max_grad_norm, data):
    lesions = lesions_of(sizes, seed=seed, scale=scale)
    removed = data.draw(st.sampled_from(sorted(set(lesions.patients.tolist()))))
    plan, model = plan_of(max_grad_norm=max_grad_norm, num_patients_declared=1), Head(9, hidden_width=3, seed=seed)
    with_patient, _ = trained(model, lesions, plan=plan)
    without, _ = trained(model, lesions.select(lesions.patients != removed), plan=plan)
    assert float((flat(with_patient) - flat(without)).norm()) <= max_grad_norm * (1 + ROUNDING_MARGIN)


def test_a_patient_with_24_lesions_counts_once():
    row = [3.0, -1.0]
    one = lesions_at([row], [1.0], [1])
    many = lesions_at([row] * 24, [1.0] * 24, [1] * 24)
    for plan in (None, plan_of(), plan_of(max_grad_norm=100.0)):
        first, _ = trained(Head(3), one, plan=plan)
        second, _ = trained(Head(3), many, plan=plan)
        torch.testing.assert_close(flat(first), flat(second))


def test_step_is_divided_by_the_declared_count_not_the_true_one():
    lesions, model = lesions_of([1] * 12), Head(9)
    steps = [
        flat(model) - flat(trained(model, lesions, plan=plan_of(num_patients_declared=declared))[0])
        for declared in (5, 10)
    ]
    torch.testing.assert_close(steps[0], 2 * steps[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("sampling_rate", [1.0, 0.5])
def test_released_noise_has_the_planned_scale_and_no_other(sampling_rate):
    width, multiplier, norm, declared = 5000, 1.7, 0.4, 20
    config = dataclasses.replace(CONFIG, sampling_rate=sampling_rate)
    plan = plan_of(config, noise_multiplier=multiplier, max_grad_norm=norm, num_patients_declared=declared)
    lesions = lesions_at([[1.0]] * 8, [0.0] * 8, list(range(8)))
    quiet, _ = trained(Constant(width), lesions, config=config, plan=plan_of(config, max_grad_norm=norm), seed=4)
    noisy, facts = trained(Constant(width), lesions, config=config, plan=plan, seed=4)
    # The same seed draws the same patients; the signal's scale differs by the declared counts 10 and 20.
    noise = flat(noisy) - flat(quiet) / 2
    assert float(flat(quiet)[0]) == pytest.approx(
        -facts.num_draws * norm / math.sqrt(width) / (sampling_rate * 10), rel=1e-3
    )
    std = multiplier * norm / (sampling_rate * declared)
    for factor, is_right in ((1, True), (2 / 3, False), (3 / 2, False)):
        p_value = stats.kstest(noise.double().numpy(), "norm", args=(0, std * factor)).pvalue
        assert bool(p_value > 1e-3) is is_right


def test_empty_draws_still_release_noise():
    config = dataclasses.replace(CONFIG, sampling_rate=1e-9, local_steps=3)
    plan = plan_of(config, noise_multiplier=1e-9)
    std = math.sqrt(3) * 1e-9 * 0.1 / (1e-9 * 10)
    for lesions in (lesions_of([1, 2]), lesions_of([])):
        after, facts = trained(Constant(2000), lesions, config=config, plan=plan)
        assert facts.num_draws == 0
        assert stats.kstest(flat(after).double().numpy(), "norm", args=(0, std)).pvalue > 1e-3


@pytest.mark.parametrize("sampling_rate", [0.02, 0.3, 0.9])
def test_draws_have_the_sampling_rate_and_come_from_the_noise_source(sampling_rate):
    by_patient = LesionsByPatient.from_lesions(lesions_of([1] * 4000))
    noise = NoiseGenerator.from_seed(0)
    first, second = (draw_patients(by_patient, sampling_rate, noise) for _ in range(2))
    for drawn in (first, second):
        assert stats.binomtest(len(drawn), 4000, sampling_rate).pvalue > 1e-3
    both = len(set(first.tolist()) & set(second.tolist()))
    assert stats.binomtest(both, 4000, sampling_rate**2).pvalue > 1e-3
    assert torch.equal(draw_patients(by_patient, sampling_rate, NoiseGenerator.from_seed(0)), first)


def test_rate_one_draws_everyone():
    by_patient = LesionsByPatient.from_lesions(lesions_of([1] * 50))
    assert torch.equal(draw_patients(by_patient, 1.0, NoiseGenerator.from_seed(0)), torch.arange(50))


@pytest.mark.parametrize("plan", [None, plan_of()])
def test_a_non_finite_input_is_rejected_even_where_the_model_ignores_it(plan):
    lesions = lesions_at([[1.0], [math.nan]], [0.0, 0.0], [1, 2])
    after, facts = trained(Constant(4), lesions, plan=plan)
    alone, _ = trained(Constant(4), lesions_at([[1.0]], [0.0], [1]), plan=plan)
    assert facts.num_rejected_draws == 1
    torch.testing.assert_close(flat(after), flat(alone) / (1 if plan else 2))


@pytest.mark.parametrize("hidden_width", [0, 2])
@pytest.mark.parametrize("kind", [Head, IndexingHead])
@pytest.mark.parametrize("field", ["images", "clinical"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, 1e20])
@pytest.mark.parametrize("plan", [None, plan_of()])
def test_a_non_finite_patient_contributes_exactly_nothing(kind, field, value, plan, hidden_width):
    lesions = lesions_of([2, 1, 3, 1])
    spoilt = copy.deepcopy(lesions)
    row = int(torch.nonzero((lesions.patients == 17) & lesions.has_image)[0])
    getattr(spoilt, field)[row, 0] = value
    others = lesions.select(lesions.patients != 17)
    after, facts = trained(kind(9, hidden_width=hidden_width), spoilt, plan=plan)
    expected, _ = trained(kind(9, hidden_width=hidden_width), others, plan=plan)
    if facts.num_rejected_draws == 0:
        # A large input may saturate the network and leave a finite gradient.
        assert math.isfinite(value)
        assert torch.isfinite(flat(after)).all()
        return
    assert facts.num_rejected_draws == 1
    difference = flat(after) - flat(kind(9, hidden_width=hidden_width))
    scale = 1 if plan else 4 / 3
    torch.testing.assert_close(
        scale * difference, flat(expected) - flat(kind(9, hidden_width=hidden_width)), rtol=1e-4, atol=1e-7
    )


class Root(Constant):
    """Not a number for a negative image, although the image is finite."""

    def forward(self, images, has_image, clinical):
        return images.sqrt() @ self.weights


@pytest.mark.parametrize("plan", [None, plan_of()])
@pytest.mark.parametrize("method", [GradientMethod.RECORD, GradientMethod.PATIENT])
def test_a_non_finite_gradient_of_a_finite_input_contributes_exactly_nothing(plan, method):
    lesions = lesions_at([[4.0, 1.0], [9.0, 1.0], [-1.0, 1.0]], [0.0, 0.0, 0.0], [1, 2, 2])
    after, facts = trained(Root(2), lesions, plan=plan, method=method)
    alone, _ = trained(Root(2), lesions.select(torch.tensor([0])), plan=plan)
    assert facts.num_rejected_draws == 1
    torch.testing.assert_close(flat(after), flat(alone) / (1 if plan else 2))


def test_missing_modalities_train():
    lesions = lesions_of([2, 3, 1])
    blind = dataclasses.replace(
        lesions, images=torch.zeros_like(lesions.images), has_image=torch.zeros_like(lesions.has_image)
    )
    before = Head(9)
    for plan in (None, plan_of()):
        after, _ = trained(before, blind, plan=plan)
        assert torch.equal(after.layers[0].weight[:, :6], before.layers[0].weight[:, :6])
        assert not torch.equal(after.layers[0].weight[:, 6:], before.layers[0].weight[:, 6:])
        assert after.image_bias.item() == pytest.approx(0, abs=1e-9)


def test_frozen_and_unused_parameters():
    model = Head(9, hidden_width=2)
    model.layers[0].requires_grad_(requires_grad=False)
    model.unused = nn.Parameter(torch.ones(3))
    for lesions in (lesions_of([2, 1]), lesions_of([2, 1], pixels=True)):
        after, _ = trained(model, lesions, plan=plan_of())
        assert torch.equal(after.layers[0].weight, model.layers[0].weight)
        torch.testing.assert_close(after.unused, model.unused)
        assert not torch.equal(after.layers[2].weight, model.layers[2].weight)
        assert all(parameter.grad is None for parameter in after.parameters())


# After the noise


def test_momentum_and_weight_decay_act_on_the_released_gradient():
    config = dataclasses.replace(CONFIG, local_steps=3, learning_rate=0.5, momentum=0.9, weight_decay=0.1)
    lesions, model = lesions_of([1, 2, 3]), Head(9)
    plan = plan_of(config, max_grad_norm=0.2, num_patients_declared=3)
    after, _ = trained(model, lesions, config=config, plan=plan)
    weights, velocity, current = flat(model), 0.0, copy.deepcopy(model)
    for _ in range(3):
        nn.utils.vector_to_parameters(weights, current.parameters())
        clipped = naive_clipped_sum(naive_patient_gradients(current, lesions), 0.2) / 3
        velocity = 0.9 * velocity + clipped + 0.1 * weights
        weights = weights - 0.5 * velocity
    torch.testing.assert_close(flat(after), weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("noise_multiplier", [SILENT, 2.0])
def test_one_step_with_momentum_is_the_step_without(noise_multiplier):
    """So that sites that add up one step each, in a secure sum, may have any momentum."""
    lesions, model = lesions_of([1, 2, 3]), Head(9)
    plain, heavy = (dataclasses.replace(CONFIG, momentum=momentum, weight_decay=0.1) for momentum in (0.0, 0.9))
    plan = plan_of(max_grad_norm=0.2, num_patients_declared=3, noise_multiplier=noise_multiplier)
    once, same = (flat(trained(model, lesions, config=config, plan=plan)[0]) for config in (plain, heavy))
    assert torch.equal(once, same)
    assert not torch.equal(once, flat(model))


@pytest.mark.parametrize("plan", [None, plan_of(dataclasses.replace(CONFIG, local_steps=2), max_grad_norm=0.2)])
def test_proximal_term_pulls_back_to_the_parameters_at_the_start(plan):
    config = dataclasses.replace(CONFIG, local_steps=2, learning_rate=0.5)
    lesions, model = lesions_of([1, 2, 3]), Head(9)
    once = dataclasses.replace(config, local_steps=1)
    first, _ = trained(model, lesions, config=once, plan=plan and dataclasses.replace(plan, steps_per_round=1))
    free, _ = trained(model, lesions, config=config, plan=plan)
    pulled, _ = trained(model, lesions, config=config, plan=plan, proximal_mu=0.4)
    # At the first step the pull is zero, at the second 0.4 times the distance walked, whatever the data say.
    torch.testing.assert_close(flat(pulled), flat(free) - 0.5 * 0.4 * (flat(first) - flat(model)))


@pytest.mark.parametrize("pixels", [False, True])
def test_without_privacy_it_is_plain_gradient_descent(pixels):
    config = dataclasses.replace(CONFIG, local_steps=4, learning_rate=0.3, momentum=0.5, weight_decay=0.01)
    lesions, model = lesions_of([1, 2, 24, 3] + [1] * 20, pixels=pixels), Head(9, hidden_width=3)
    after, facts = trained(model, lesions, config=config)
    reference = copy.deepcopy(model)
    sgd = torch.optim.SGD(reference.parameters(), lr=0.3, momentum=0.5, weight_decay=0.01)
    for _ in range(4):
        gradients = naive_patient_gradients(reference, lesions)
        mean = sum(gradients.values()) / len(gradients)
        for parameter, values in zip(
            reference.parameters(), mean.split([p.numel() for p in reference.parameters()]), strict=True
        ):
            parameter.grad = values.view_as(parameter)
        sgd.step()
    torch.testing.assert_close(flat(after), flat(reference), rtol=1e-4, atol=1e-6)
    assert facts.num_draws == 4 * 24


def test_without_privacy_draws_repeat_and_an_empty_draw_is_no_error():
    config = dataclasses.replace(CONFIG, local_steps=5, sampling_rate=0.1)
    lesions, model = lesions_of([1, 2, 3]), Head(9)
    first, facts = trained(model, lesions, config=config)
    again, _ = trained(model, lesions, config=config)
    assert 0 < facts.num_draws < 5
    assert torch.equal(flat(first), flat(again))


# The whole round


@pytest.mark.parametrize("kind", [Head, IndexingHead])
def test_seeded_rounds_are_bitwise_equal_and_seeds_matter(kind):
    config = dataclasses.replace(CONFIG, local_steps=4, sampling_rate=0.5)
    lesions, plan = lesions_of([2, 1, 5, 3, 1, 1]), plan_of(config, noise_multiplier=1.0)
    first, again, other = (
        flat(trained(kind(9, 4), lesions, config=config, plan=plan, seed=seed)[0]) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).any()


class Normalised(Head):
    def __init__(self, norm):
        super().__init__(9)
        self.norm = norm

    def forward(self, images, has_image, clinical):
        return super().forward(self.norm(images), has_image, clinical)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(6), nn.BatchNorm1d(6).eval(), nn.BatchNorm1d(6, affine=False)])
def test_batch_normalisation_is_refused_unless_frozen(norm):
    with pytest.raises(PrivacyError, match="Expected norm to be frozen and in evaluation mode: BatchNorm1d"):
        trained(Normalised(norm), lesions_of([1, 2]), plan=plan_of())


def test_frozen_batch_normalisation_and_group_normalisation_are_accepted():
    frozen = nn.BatchNorm1d(6).eval().requires_grad_(requires_grad=False)
    for norm in (frozen, nn.GroupNorm(2, 6)):
        after, _ = trained(Normalised(norm), lesions_of([1, 2]), plan=plan_of())
        assert torch.isfinite(flat(after)).all()
    assert frozen.running_mean.tolist() == [0.0] * 6


def test_plan_and_training_must_agree():
    for change in ({"sampling_rate": 0.5}, {"local_steps": 2}):
        with pytest.raises(
            PrivacyError, match=rf"Expected training.{next(iter(change))}=.* as the privacy plan has it"
        ):
            LocalTraining(config=dataclasses.replace(CONFIG, **change), plan=plan_of())


def test_proximal_mu_must_not_push():
    with pytest.raises(ValueError, match=r"Expected proximal_mu=-0.1 >= 0"):
        LocalTraining(config=CONFIG, plan=None, proximal_mu=-0.1)


def test_a_model_must_have_something_to_train():
    model = Head(9).requires_grad_(requires_grad=False)
    with pytest.raises(ValueError, match="at least one trainable parameter"):
        trained(model, lesions_of([1]), plan=plan_of())


def test_optimizer_scales_the_sum_and_adds_noise_once():
    def released(total, noise_multiplier):
        model = Constant(3)
        plan = plan_of(noise_multiplier=noise_multiplier, max_grad_norm=2.0)
        sgd = torch.optim.SGD(model.parameters(), lr=1.0)
        optimizer = PatientOptimizer(sgd, plan=plan, noise=NoiseGenerator.from_seed(1))
        optimizer.release((torch.tensor(total, dtype=torch.float64),))
        assert model.weights.grad is None
        return model.weights.detach()

    noise = NoiseGenerator.from_seed(1).normal((3,), std=3.0 * (1 + ROUNDING_MARGIN))
    torch.testing.assert_close(released([0.0, 0.0, 0.0], 1.5), -noise / 10)
    torch.testing.assert_close(released([5.0, -1.0, 0.5], 1.5), -(noise + torch.tensor([5.0, -1.0, 0.5])) / 10)


def test_a_method_that_does_not_work_with_the_model_is_refused():
    with pytest.raises(RuntimeError, match="Expected the model to be a linear layer, got Head"):
        trained(Head(9), lesions_of([1, 2]), plan=plan_of(), method=GradientMethod.GHOST)


@pytest.mark.parametrize("method", GradientMethod)
def test_every_method_takes_the_same_steps(method):
    config = dataclasses.replace(CONFIG, local_steps=3, sampling_rate=0.5, momentum=0.5)
    lesions, plan = lesions_of([2, 1, 24, 3, 1, 1]), plan_of(config, noise_multiplier=1.0)
    model = Head(9, hidden_width=3)
    model.image_bias.requires_grad_(requires_grad=False)
    chosen, _ = trained(model, lesions, config=config, plan=plan)
    after, _ = trained(model, lesions, config=config, plan=plan, method=method)
    torch.testing.assert_close(flat(after), flat(chosen))
    assert not torch.equal(flat(after), flat(model))
