"""Evidence against scikit-learn on gathered lesions, group by group, and where figures are not defined."""

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as reference

from server.evaluation.estimates import (
    ESTIMATE_LABELS,
    SMALL_GROUP_PATIENTS,
    EstimateSettings,
    estimate_from_histogram,
    estimate_from_predictions,
)
from server.evaluation.predictions import Predictions
from server.results.evidence import Level
from shared_model.metrics.score_histogram import ScoreHistogram

SETTINGS = EstimateSettings(threshold=0.5, prevalence=0.01, num_resamples=100, seed=3)


def cohort(num_lesions=240, seed=0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, num_lesions)
    patients = np.sort(generator.integers(0, num_lesions // 3, num_lesions))
    return Predictions(
        labels=labels,
        scores=1 / (1 + np.exp(-generator.normal(size=num_lesions) - labels)),
        patients=patients,
        attributes={
            "site": tuple("A" if patient < 75 else "B" for patient in patients),
            "laterality": tuple(generator.choice(["LEFT", "RIGHT"], num_lesions).tolist()),
            "abnormality_type": ("mass",) * num_lesions,
            "pathology": tuple("MALIGNANT" if label else "BENIGN" for label in labels),
        },
    )


@pytest.fixture(scope="module")
def predictions():
    return cohort()


@pytest.fixture(scope="module")
def evidence(predictions):
    return estimate_from_predictions(predictions, SETTINGS)


def gathered(predictions, level):
    keys = {
        Level.LESION: range(len(predictions.labels)),
        Level.BREAST: zip(predictions.patients, predictions.attributes["laterality"], strict=True),
        Level.PATIENT: predictions.patients,
    }[level]
    units = {}
    for key, label, score in zip(keys, predictions.labels, predictions.scores, strict=True):
        old = units.get(key, (0, 0.0))
        units[key] = (max(old[0], label), max(old[1], score))
    labels, scores = zip(*units.values(), strict=True)
    return np.array(labels), np.array(scores)


@pytest.mark.parametrize("level", list(Level))
def test_every_level_equals_scikit_learn(predictions, evidence, level):
    labels, scores = gathered(predictions, level)
    found, calls = evidence.level(level), scores >= 0.5
    values = {figure.name: figure.value for figure in found.figures}
    expected = {
        "auroc": reference.roc_auc_score(labels, scores),
        "partial_auroc": reference.roc_auc_score(labels, scores, max_fpr=0.1),
        "average_precision": reference.average_precision_score(labels, scores),
        "brier": reference.brier_score_loss(labels, scores),
        "f1": reference.f1_score(labels, calls),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, calls),
        "sensitivity": reference.recall_score(labels, calls),
        "specificity": reference.recall_score(labels, calls, pos_label=0),
        "ppv": reference.precision_score(labels, calls),
        "npv": reference.precision_score(labels, calls, pos_label=0),
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert (found.num_units, found.num_malignant) == (len(labels), labels.sum())
    tn, fp, fn, tp = reference.confusion_matrix(labels, calls).ravel()
    assert (found.tp, found.fp, found.tn, found.fn) == (tp, fp, tn, fn)


def test_every_figure_has_a_name_for_readers_and_an_interval_round_it(evidence):
    for level in evidence.levels:
        assert {figure.name for figure in level.figures} == set(ESTIMATE_LABELS)
        for figure in level.figures:
            # The calibration error of resamples is larger than that of the lesions: noise is never calibrated.
            if figure.name != "calibration_error":
                assert figure.interval.low <= figure.value <= figure.interval.high, figure.name
        assert level.auroc_interval_delong.low < level.estimate("auroc").value < level.auroc_interval_delong.high


def test_groups_divide_the_lesions(predictions, evidence):
    attributes = {group.attribute for group in evidence.groups}
    # One type only: nothing to compare.
    assert attributes == {"site", "pathology"}
    for attribute in attributes:
        groups = [group for group in evidence.groups if group.attribute == attribute]
        assert sum(group.num_lesions for group in groups) == len(predictions.labels)
        for group in groups:
            rows = np.array(predictions.attributes[attribute]) == group.value
            assert group.num_malignant == predictions.labels[rows].sum()
            assert group.is_small == (len(set(predictions.patients[rows])) < SMALL_GROUP_PATIENTS)
            if group.estimate("auroc") is not None:
                expected = reference.roc_auc_score(predictions.labels[rows], predictions.scores[rows])
                assert group.estimate("auroc").value == pytest.approx(expected, abs=1e-9)


def test_a_group_of_one_class_has_the_figure_of_its_class(predictions, evidence):
    (malignant,) = (group for group in evidence.groups if group.value == "MALIGNANT")
    assert [figure.name for figure in malignant.figures] == ["sensitivity"]
    calls = predictions.scores[predictions.labels == 1] >= 0.5
    assert malignant.estimate("sensitivity").value == pytest.approx(calls.mean())
    interval = malignant.estimate("sensitivity").interval
    assert interval.low < calls.mean() < interval.high


def test_without_threshold_nothing_speaks_of_an_operating_point(predictions):
    found = estimate_from_predictions(predictions, dataclasses.replace(SETTINGS, threshold=None))
    for level in found.levels:
        assert (level.tp, level.fp, level.tn, level.fn) == (None,) * 4
        assert not {"sensitivity", "ppv", "f1"} & {figure.name for figure in level.figures}


def test_lesions_of_one_class_give_no_evidence(predictions):
    assert estimate_from_predictions(predictions.select(predictions.labels == 1), SETTINGS) is None


def test_the_seed_alone_decides(predictions, evidence):
    assert estimate_from_predictions(predictions, SETTINGS) == evidence
    assert estimate_from_predictions(predictions, dataclasses.replace(SETTINGS, seed=4)) != evidence


def test_added_histograms_give_the_figures_of_all_lesions_within_their_bins(predictions, evidence):
    halves = [predictions.select(np.arange(240) % 2 == half) for half in (0, 1)]
    first, second = (ScoreHistogram.from_scores(half.labels, half.scores, 1000) for half in halves)
    found = estimate_from_histogram((first + second).class_counts, SETTINGS).level(Level.LESION)
    exact = evidence.level(Level.LESION)
    assert (found.tp, found.fp, found.tn, found.fn) == (exact.tp, exact.fp, exact.tn, exact.fn)
    for figure in found.figures:
        assert figure.interval is None
        assert figure.value == pytest.approx(exact.estimate(figure.name).value, abs=0.02)
    assert not {"brier", "calibration_error"} & {figure.name for figure in found.figures}
    assert estimate_from_histogram(ScoreHistogram.from_scores([1], [0.5], 10).class_counts, SETTINGS) is None
