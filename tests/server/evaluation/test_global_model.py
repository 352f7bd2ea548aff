"""The network on the server: its metrics against scikit-learn, its threshold, and scores that become probabilities."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import recall_score, roc_auc_score

from server.evaluation.global_model import GlobalModel
from shared_model.data.lesions import Lesions
from shared_model.errors import CohortError, ConfigError, DataError
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.scoring import predict
from shared_model.network.state import load_trainable

NUM_BINS = 50
"""As in the configuration of the fixture."""


@pytest.fixture
def model(federation):
    return GlobalModel.from_config(federation.config())


def parameters_of(model, seed=0):
    """Parameters of a network that ranks by the first column and a little noise."""
    generator = np.random.default_rng(seed)
    parameters = {}
    for name, array in model.initial_parameters.items():
        weights = 0.1 * generator.normal(size=array.shape)
        weights.flat[0] += 2
        parameters[name] = weights.astype(np.float32)
    return parameters


def scores_of(model, lesions, parameters):
    load_trainable(model.network, parameters)
    return predict(model.network, lesions)


def save(path, lesions):
    Path(path).write_bytes(lesions.to_bytes())
    return path


def with_labels(lesions, labels):
    return dataclasses.replace(lesions, labels=torch.tensor(labels, dtype=torch.float32))


class TestHoldout:
    def test_metrics_equal_scikit_learn(self, model):
        parameters = parameters_of(model)
        found = model.evaluate(parameters, test=None, validation=None)
        labels, scores = model.holdout.labels.numpy(), scores_of(model, model.holdout, parameters)
        assert found.scores.tolist() == scores.tolist()
        assert found.auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        calls = scores >= found.threshold
        assert found.sensitivity == pytest.approx(recall_score(labels, calls))
        assert found.specificity == pytest.approx(recall_score(labels, calls, pos_label=0))
        assert found.site_test is None

    @pytest.mark.parametrize("target", [0.5, 0.9, 1.0])
    def test_the_threshold_is_the_highest_that_reaches_the_target_on_public_lesions(self, federation, target):
        model = GlobalModel.from_config(federation.config(f"evaluation.target_sensitivity={target}"))
        parameters = parameters_of(model)
        threshold = model.evaluate(parameters, test=None, validation=None).threshold
        malignant = scores_of(model, model.public, parameters)[model.public.labels.numpy() == 1]
        assert (malignant >= threshold).mean() >= target
        assert (malignant > threshold).mean() < target

    def test_without_a_threshold_there_is_still_an_auroc(self, federation):
        model = GlobalModel.from_config(federation.config("evaluation.public=null"))
        found = model.evaluate(parameters_of(model), test=None, validation=None)
        assert found.auroc is not None
        assert (found.threshold, found.sensitivity, found.specificity) == (None, None, None)

    def test_the_sites_histogram_is_kept_beside_the_server_s_own_lesions(self, model):
        histogram = ScoreHistogram.from_scores([0, 1], [0.2, 0.8], NUM_BINS)
        found = model.evaluate(parameters_of(model), test=histogram, validation=None)
        assert found.site_test is histogram
        assert found.scores is not None

    def test_lesions_of_one_class_have_no_auroc(self, federation):
        lesions = Lesions.load(federation.holdout)
        save(federation.holdout, with_labels(lesions, np.ones(len(lesions))))
        model = GlobalModel.from_config(federation.config())
        found = model.evaluate(parameters_of(model), test=None, validation=None)
        assert (found.auroc, found.specificity) == (None, None)
        assert 0 < found.sensitivity <= 1

    def test_a_threshold_needs_a_malignant_public_lesion(self, federation):
        lesions = Lesions.load(federation.public)
        save(federation.public, with_labels(lesions, np.zeros(len(lesions))))
        model = GlobalModel.from_config(federation.config())
        with pytest.raises(CohortError, match="a malignant lesion among the public patients"):
            model.evaluate(parameters_of(model), test=None, validation=None)


class TestHistograms:
    @staticmethod
    def histograms():
        generator = np.random.default_rng(5)
        labels = generator.integers(0, 2, 80)
        scores = np.clip(0.3 + 0.3 * labels + 0.15 * generator.normal(size=80), 0, 1)
        test, validation = (ScoreHistogram.from_scores(labels[k::2], scores[k::2], NUM_BINS) for k in (0, 1))
        return labels, scores, test, validation

    @pytest.fixture
    def remote(self, federation):
        """A server without lesions of its own."""
        return GlobalModel.from_config(federation.config(has_lesions=False))

    def test_metrics_of_the_binned_scores(self, remote):
        labels, scores, test, validation = self.histograms()
        found = remote.evaluate(remote.initial_parameters, test=test, validation=validation)
        binned = np.floor(scores * NUM_BINS + 1e-9) / NUM_BINS
        assert found.auroc == pytest.approx(roc_auc_score(labels[::2], binned[::2]))
        calls = binned[::2] >= found.threshold - 1e-9
        assert found.sensitivity == pytest.approx(recall_score(labels[::2], calls))
        assert found.specificity == pytest.approx(recall_score(labels[::2], calls, pos_label=0))
        # The threshold comes from the validation lesions, which are others.
        assert (binned[1::2][labels[1::2] == 1] >= found.threshold - 1e-9).mean() >= 0.9
        assert found.scores is None
        assert found.site_test is test

    def test_nothing_from_anybody_gives_no_metrics(self, remote):
        assert remote.evaluate(remote.initial_parameters, test=None, validation=None) is None

    def test_test_counts_without_validation_counts_have_no_threshold(self, remote):
        _, _, test, _ = self.histograms()
        found = remote.evaluate(remote.initial_parameters, test=test, validation=None)
        assert found.auroc is not None
        assert (found.threshold, found.sensitivity, found.specificity) == (None, None, None)

    def test_a_threshold_of_public_lesions_moves_down_to_a_bin_edge(self, federation):
        model = GlobalModel.from_config(federation.config("evaluation.holdout=null"))
        _, _, test, _ = self.histograms()
        parameters = parameters_of(model)
        found = model.evaluate(parameters, test=test, validation=None)
        with_holdout = GlobalModel.from_config(federation.config())
        exact = with_holdout.evaluate(parameters, test=None, validation=None).threshold
        assert found.threshold == pytest.approx(np.floor(exact * NUM_BINS) / NUM_BINS)
        assert found.threshold <= exact < found.threshold + 1 / NUM_BINS

    def test_a_threshold_of_1_is_in_the_last_bin(self, federation):
        # Logits of 40 and more are scores of 1.
        settings = ("evaluation.threshold_from=training", "evaluation.public=null")
        model = GlobalModel.from_config(federation.config(*settings, has_lesions=False))
        _, _, test, _ = self.histograms()
        found = model.evaluate(model.initial_parameters, test=test, validation=None, threshold=1.0)
        assert found.threshold == (NUM_BINS - 1) / NUM_BINS
        assert found.specificity == pytest.approx(1 - test.negatives[-1] / test.negatives.sum())


class TestRescaling:
    def test_ranks_stay_and_scores_become_probabilities(self, model):
        parameters = parameters_of(model)
        rescaled = model.rescale_scores(parameters)
        before, after = (scores_of(model, model.holdout, each) for each in (parameters, rescaled))
        assert np.argsort(before, kind="stable").tolist() == np.argsort(after, kind="stable").tolist()
        public = scores_of(model, model.public, rescaled)
        # The mean of fitted probabilities is the share of malignant lesions, up to Platt's smoothing.
        assert public.mean() == pytest.approx(model.public.labels.numpy().mean(), abs=0.02)

    def test_the_given_parameters_are_left_alone(self, model):
        parameters = parameters_of(model)
        before = {name: array.copy() for name, array in parameters.items()}
        rescaled = model.rescale_scores(parameters)
        for name, array in before.items():
            assert parameters[name].tolist() == array.tolist()
            assert rescaled[name].dtype == np.float32

    def test_without_public_lesions_nothing_changes(self, federation):
        model = GlobalModel.from_config(federation.config("evaluation.public=null"))
        parameters = parameters_of(model)
        assert model.rescale_scores(parameters) is parameters

    def test_scores_that_rank_backwards_are_not_turned_round(self, model):
        parameters = {name: -array for name, array in parameters_of(model).items()}
        assert model.rescale_scores(parameters) is parameters


class TestBuilding:
    def test_the_same_seed_gives_the_same_network(self, federation):
        settings = ("model.hidden_width=3",)
        first, second, other = (
            GlobalModel.from_config(federation.config(*settings, f"seed={seed}")).initial_parameters
            for seed in (0, 0, 1)
        )
        assert all(first[name].tolist() == second[name].tolist() for name in first)
        assert any(first[name].tolist() != other[name].tolist() for name in first)

    def test_every_lesion_begins_with_probability_one_half(self, model):
        found = model.evaluate(model.initial_parameters, test=None, validation=None)
        assert set(found.scores) == {0.5}

    def test_constants_are_fitted_to_the_images_of_public_lesions_alone(self, federation):
        lesions = Lesions.load(federation.public)
        generator = np.random.default_rng(0)
        features = torch.tensor(generator.normal(size=(len(lesions), FEATURE_WIDTH)), dtype=torch.float32)
        has_image = torch.tensor(generator.random(len(lesions)) < 0.8)
        save(federation.public, dataclasses.replace(lesions, images=features, has_image=has_image))
        config = federation.config("model.modality=fusion", "evaluation.holdout=null")
        model = GlobalModel.from_config(config)
        (mean,) = (array for name, array in model.constants.items() if name.endswith("mean"))
        np.testing.assert_allclose(mean, features[has_image].numpy().mean(axis=0), rtol=1e-4, atol=1e-5)
        assert not set(model.constants) & set(model.initial_parameters)

    def test_a_network_without_images_has_no_constants(self, model):
        assert dict(model.constants) == {}

    def test_somebody_must_have_test_lesions(self, federation):
        with pytest.raises(ConfigError, match=r"Expected evaluation\.holdout, the server's own test file"):
            GlobalModel.from_config(federation.config("evaluation.privacy=none", has_lesions=False))

    @pytest.mark.parametrize("name", ["holdout", "public"])
    def test_a_file_that_cannot_be_read_is_named(self, federation, name):
        path = getattr(federation, name)
        path.write_bytes(b"no lesions")
        with pytest.raises(DataError, match=rf"Expected lesion tensors in .*{name}\.safetensors"):
            GlobalModel.from_config(federation.config())
