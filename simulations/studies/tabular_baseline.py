"""What the clinical table alone gives, without a network, a federation or privacy: the marks to beat."""

import dataclasses

import numpy as np
from sklearn.linear_model import LogisticRegression

from client.data.splits import Role
from server.evaluation.estimates import EstimateSettings, estimate_from_predictions
from server.evaluation.predictions import Predictions
from server.evaluation.threshold import threshold_for_sensitivity
from server.results.evidence import Evidence
from shared_model.config.choices import Modality
from shared_model.data.lesions import Lesions
from simulations.federation.prepare import PreparedFederation
from simulations.patient_roles import lesions_by_role

LOGISTIC, MAJORITY = "logistic regression, central, no privacy", "majority"


def tabular_baselines(prepared: PreparedFederation, holdout: Lesions, test: Predictions) -> dict[str, Evidence | None]:
    """Return what a logistic regression and the majority class reach, fitted on the training patients of all sites.

    Args:
        prepared: the data of all sites.
        holdout: the test lesions.
        test: the same lesions with what describes them; their scores are not used.

    Returns:
        Figures of merit by ``LOGISTIC`` and ``MAJORITY``; None where the test lesions are of one class.
    """
    config = prepared.config
    without_images = dataclasses.replace(config, model=dataclasses.replace(config.model, modality=Modality.CLINICAL))
    lesions, _ = lesions_by_role(prepared.table, without_images)
    training, public = lesions[Role.TRAIN], lesions[Role.PUBLIC]
    model = LogisticRegression(max_iter=1000).fit(training.clinical.numpy(), training.labels.numpy())
    # The threshold comes from the patients that the networks' threshold comes from.
    chosen_on = public if public.labels.any() else training
    threshold = threshold_for_sensitivity(
        chosen_on.labels.numpy(),
        model.predict_proba(chosen_on.clinical.numpy())[:, 1],
        config.evaluation.target_sensitivity,
    )
    # By name scores and threshold.
    scores = {
        LOGISTIC: (model.predict_proba(holdout.clinical.numpy())[:, 1].astype(np.float64), threshold),
        MAJORITY: (np.full(len(holdout), float(training.labels.mean())), 0.5),
    }
    return {name: _evidence(prepared, test, values, cut) for name, (values, cut) in scores.items()}


def _evidence(
    prepared: PreparedFederation,
    test: Predictions,
    scores: np.ndarray[tuple[int], np.dtype[np.float64]],
    threshold: float,
) -> Evidence | None:
    evaluation = prepared.config.evaluation
    settings = EstimateSettings(
        threshold=threshold,
        prevalence=evaluation.prevalence,
        num_resamples=evaluation.bootstrap_resamples,
        seed=prepared.config.seed,
    )
    predictions = Predictions(labels=test.labels, scores=scores, patients=test.patients, attributes=test.attributes)
    return estimate_from_predictions(predictions, settings)
