"""What the clinical table alone gives: against scikit-learn, fitted directly, and by counting."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from client.data.splits import Role
from server.evaluation.predictions import Predictions, read_attributes
from shared_model.data.lesions import Lesions
from simulations.patient_roles import lesions_by_role
from simulations.studies.tabular_baseline import LOGISTIC, MAJORITY, tabular_baselines


@pytest.fixture(scope="module")
def lesions(data):
    return lesions_by_role(data.prepared.table, data.config)[0]


@pytest.fixture(scope="module")
def baselines(data):
    path = Path(data.config.evaluation.holdout)
    holdout = Lesions.load(path)
    test = Predictions.from_lesions(holdout, np.zeros(len(holdout)), read_attributes(path, len(holdout)))
    return tabular_baselines(data.prepared, holdout, test)


@pytest.fixture(scope="module")
def probabilities(lesions):
    """The test lesions' probabilities after a fit on the training lesions of all sites."""
    train, test = lesions[Role.TRAIN], lesions[Role.TEST]
    model = LogisticRegression(max_iter=1000).fit(train.clinical.numpy(), train.labels.numpy())
    return model.predict_proba(test.clinical.numpy())[:, 1]


def test_the_logistic_regression_is_scikit_learns(lesions, baselines, probabilities):
    labels = lesions[Role.TEST].labels.numpy()
    level = baselines[LOGISTIC].levels[0]
    assert level.estimate("auroc").value == pytest.approx(roc_auc_score(labels, probabilities))
    assert level.estimate("brier").value == pytest.approx(brier_score_loss(labels, probabilities))


def test_its_threshold_finds_the_wanted_share_of_public_cancers(data, lesions, baselines):
    train, public, test = (lesions[role] for role in (Role.TRAIN, Role.PUBLIC, Role.TEST))
    model = LogisticRegression(max_iter=1000).fit(train.clinical.numpy(), train.labels.numpy())
    cancers = np.sort(model.predict_proba(public.clinical[public.labels > 0].numpy())[:, 1])[::-1]
    wanted = int(np.ceil(data.config.evaluation.target_sensitivity * len(cancers)))
    # The largest threshold that still calls so many public cancers.
    threshold = cancers[wanted - 1]
    is_called = model.predict_proba(test.clinical.numpy())[:, 1] >= threshold
    is_cancer = test.labels.numpy() > 0
    level = baselines[LOGISTIC].levels[0]
    assert (level.tp, level.fp) == (int((is_called & is_cancer).sum()), int((is_called & ~is_cancer).sum()))


def test_the_majority_class_calls_nobody_and_tells_nobody_apart(lesions, baselines):
    assert lesions[Role.TRAIN].labels.mean() < 0.5
    level = baselines[MAJORITY].levels[0]
    assert level.estimate("auroc").value == 0.5
    assert (level.tp, level.fp) == (0, 0)
    share, labels = float(lesions[Role.TRAIN].labels.mean()), lesions[Role.TEST].labels.numpy()
    assert level.estimate("brier").value == pytest.approx(np.mean((labels - share) ** 2))


def test_hospitals_are_stated_apart(data, baselines):
    groups = {group.value for group in baselines[LOGISTIC].groups if group.attribute == "site"}
    assert groups == set(data.sites)
