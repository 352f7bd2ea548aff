"""Scores of a network: values, batches, modes, failures."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from shared_model.config.composition import compose
from shared_model.data.lesions import Lesions
from shared_model.errors import RoundError
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.network import scoring
from shared_model.network.fusion import build_network
from shared_model.network.scoring import head_inputs, predict
from shared_model.network.state import load_constants, load_trainable, trainable_state


class LinearNetwork(nn.Module):
    """A fusion network in small: features masked by ``has_image``, beside the clinical columns, under dropout."""

    def __init__(self):
        super().__init__()
        self.image, self.clinical, self.dropout = nn.Linear(4, 1), nn.Linear(2, 1), nn.Dropout(0.5)
        self.batch_sizes = []
        self.saw_training = False
        self.saw_gradients = False

    def forward(self, images, has_image, clinical):
        self.batch_sizes.append(len(images))
        self.saw_training |= self.training or self.dropout.training
        self.saw_gradients |= torch.is_grad_enabled()
        hidden = self.dropout(self.image(images)) * has_image[:, None] + self.clinical(clinical)
        return hidden.squeeze(1)


class FirstColumn(nn.Module):
    """Its logits stand in the first clinical column."""

    def forward(self, images, has_image, clinical):
        return clinical[:, 0]


class OtherShape(nn.Module):
    def forward(self, images, has_image, clinical):
        return clinical[:, :1]


def lesions_of(num_lesions, shape=(4,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Lesions(
        images=torch.randn(num_lesions, *shape, generator=generator),
        has_image=torch.arange(num_lesions) % 3 != 0,
        clinical=torch.randn(num_lesions, 2, generator=generator),
        labels=(torch.arange(num_lesions) % 2).float(),
        patients=torch.arange(num_lesions) // 2,
    )


def lesions_with(logits):
    lesions = lesions_of(len(logits))
    return dataclasses.replace(lesions, clinical=torch.tensor(logits)[:, None].repeat(1, 2))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return LinearNetwork()


def test_scores_are_the_sigmoid_of_the_logits_in_float64(network):
    lesions = lesions_of(7)
    weights = {name: value.detach().numpy().astype(float) for name, value in network.named_parameters()}
    image = lesions.images.numpy() @ weights["image.weight"][0] + weights["image.bias"]
    clinical = lesions.clinical.numpy() @ weights["clinical.weight"][0] + weights["clinical.bias"]
    scores = predict(network, lesions)
    assert (scores.dtype, scores.shape) == (np.float64, (7,))
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-(image * lesions.has_image.numpy() + clinical))), atol=1e-6)


def test_far_logits_keep_their_order_in_float64():
    scores = predict(FirstColumn(), lesions_with([-80.0, 17.5, 18.0, 200.0]))
    assert np.all(np.diff(scores) > 0)
    assert scores[-1] == 1.0


def test_batches_are_bounded_and_change_no_score(network, monkeypatch):
    lesions = lesions_of(23)
    at_once = predict(network, lesions)
    monkeypatch.setattr(scoring, "MAX_BATCH_VALUES", 5 * 4 + 3)
    network.batch_sizes.clear()
    np.testing.assert_allclose(predict(network, lesions), at_once, rtol=0, atol=1e-7)
    # Every pass has as many rows, whoever is there.
    assert network.batch_sizes == [5] * 5


def test_an_image_above_the_bound_goes_alone(network, monkeypatch):
    monkeypatch.setattr(scoring, "MAX_BATCH_VALUES", 1)
    predict(network, lesions_of(3))
    assert network.batch_sizes == [1] * 3


def test_runs_in_evaluation_mode_without_gradients_and_restores_every_module(network):
    network.train()
    network.image.eval()
    modes = {name: module.training for name, module in network.named_modules()}
    predict(network, lesions_of(5))
    assert not network.saw_training
    assert not network.saw_gradients
    assert {name: module.training for name, module in network.named_modules()} == modes


def test_restores_the_modes_after_a_failure(network):
    network.train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        predict(network, lesions_of(5, shape=(3,)))
    assert network.training
    assert network.dropout.training


def test_no_lesions_give_no_scores(network):
    scores = predict(network, lesions_of(0))
    assert (scores.dtype, scores.shape) == (np.float64, (0,))
    assert score_histogram(network, lesions_of(0), 10).num_lesions == 0


def test_works_on_pixels():
    class MeanOfPixels(nn.Module):
        def forward(self, images, has_image, clinical):
            return images.mean(dim=(1, 2, 3))

    lesions = lesions_of(4, shape=(1, 6, 5))
    expected = 1 / (1 + np.exp(-lesions.images.double().mean(dim=(1, 2, 3)).numpy()))
    np.testing.assert_allclose(predict(MeanOfPixels(), lesions), expected, atol=1e-6)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_fails_the_round(broken):
    with pytest.raises(RoundError, match="finite scores, got 1 of 3"):
        predict(FirstColumn(), lesions_with([0.0, broken, 1.0]))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_has_a_fixed_place_where_one_is_named(broken):
    scores = predict(FirstColumn(), lesions_with([0.0, broken, 1.0]), not_finite=0.25)
    np.testing.assert_array_equal(scores[1], 0.25)
    np.testing.assert_array_equal(scores[[0, 2]], predict(FirstColumn(), lesions_with([0.0, 1.0])))


def test_logits_of_another_shape_are_an_error():
    with pytest.raises(ValueError, match=r"logits of shape \(256,\), got \(256, 1\)"):
        predict(OtherShape(), lesions_of(3))


def score_histogram(network, lesions, num_bins):
    return ScoreHistogram.from_scores(lesions.labels.numpy(), predict(network, lesions), num_bins)


def test_histogram_counts_the_scores_by_class():
    lesions = dataclasses.replace(lesions_with([-5.0, 5.0, -0.1, 0.1]), labels=torch.tensor([0.0, 1.0, 1.0, 0.0]))
    histogram = score_histogram(FirstColumn(), lesions, 4)
    assert histogram.negatives.tolist() == [1, 0, 1, 0]
    assert histogram.positives.tolist() == [0, 1, 0, 1]


def test_histograms_of_sites_add_up_to_that_of_all_lesions(network):
    lesions = lesions_of(30)
    rows = torch.arange(30)
    parts = [score_histogram(network, lesions.select(rows[start::3]), 50) for start in range(3)]
    total, expected = parts[0] + parts[1] + parts[2], score_histogram(network, lesions, 50)
    np.testing.assert_array_equal(total.negatives, expected.negatives)
    np.testing.assert_array_equal(total.positives, expected.positives)


class TestHeadInputs:
    @staticmethod
    def network(*overrides):
        network = build_network(compose(["preset=smoke", *overrides]).model, 2, seed=0)
        generator = np.random.default_rng(0)
        if network.image_standardisation is not None:
            shapes = network.image_standardisation.shapes.items()
            constants = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes}
            load_constants(network, {f"image_standardisation.{name}": array for name, array in constants.items()})
        arrays = {name: generator.normal(size=array.shape) for name, array in trainable_state(network).items()}
        load_trainable(network, {name: array.astype(np.float32) for name, array in arrays.items()})
        return network

    @pytest.mark.parametrize("modality", ["fusion", "image", "clinical"])
    @pytest.mark.parametrize("num_lesions", [1, 255, 256, 600])
    def test_their_product_with_the_weights_is_the_logit(self, modality, num_lesions):
        network, lesions = self.network(f"model.modality={modality}"), lesions_of(num_lesions, shape=(320,))
        inputs = head_inputs(network, lesions)
        (weights,) = trainable_state(network).values()
        assert inputs.shape == (num_lesions, weights.size)
        logits = inputs @ weights.ravel().astype(np.float64)
        np.testing.assert_allclose(1 / (1 + np.exp(-logits)), predict(network, lesions), atol=1e-6)

    def test_nobody_has_no_rows_and_leaves_no_hook(self):
        network = self.network()
        assert head_inputs(network, lesions_of(0, shape=(320,))).shape == (0, 4 + 2 + 1)
        assert not network.linear_head._forward_pre_hooks

    @pytest.mark.parametrize("override", ["model.fusion=mid", "model.fusion=late", "model.hidden_width=3"])
    def test_a_head_that_is_not_linear_is_refused(self, override):
        with pytest.raises(ValueError, match=r"Expected a linear head: one modality or model\.fusion=early"):
            head_inputs(self.network(override), lesions_of(3, shape=(320,)))
