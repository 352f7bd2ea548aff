"""The document of an evaluation: what it refuses, and that it comes back as it was written."""

import dataclasses

import pytest

from server.results.evidence import GroupResult
from shared_model.metrics.intervals import ConfidenceInterval
from simulations.evaluation.document import (
    Difference,
    Drift,
    EvaluatedLesions,
    EvaluatedRun,
    Evaluation,
    FeatureDrift,
    ReliabilityBin,
    ScoreDistribution,
    read_evaluation,
    write_evaluation,
)

FEATURES = FeatureDrift(
    is_cosine=True, value=0.9, interval=ConfidenceInterval(low=0.8, high=0.95), without_drift=0.97, num_patients=3
)
EVALUATION = Evaluation(
    run=EvaluatedRun(preset="smoke", seed=0, model_sha256="ab", source_fingerprint="cd", threshold=0.5),
    lesions=EvaluatedLesions(
        name="table",
        num_rows=5,
        num_lesions=4,
        num_with_image=3,
        num_patients=3,
        num_malignant=4,
        rejected={"no image file": 1},
        notes=("a note",),
    ),
    scores=ScoreDistribution(mean=0.4, quantiles=(0.1, 0.2, 0.3, 0.4, 0.5), bins=(4, *[0] * 19), num_called=1),
    evidence=None,
    one_class=GroupResult(
        attribute="lesions", value="all", num_lesions=4, num_malignant=4, num_patients=3, is_small=True, figures=()
    ),
    reliability=(ReliabilityBin(predicted=0.4, observed=1, num_lesions=4),),
    drift=Drift(
        num_reference_lesions=9,
        num_reference_patients=8,
        differences=(Difference(name="score", value=0.2, by_chance=0.3),),
        features=FEATURES,
    ),
    recalibration=None,
    source_fingerprint="ef",
    finished="2026-01-01T00:00:00+00:00",
)


def test_it_comes_back_as_it_was_written(tmp_path):
    write_evaluation(EVALUATION, tmp_path / "evaluation.json")
    assert read_evaluation(tmp_path / "evaluation.json") == EVALUATION


@pytest.mark.parametrize(("value", "by_chance", "is_drift"), [(0.3, 0.3, False), (0.31, 0.3, True), (0, 0, False)])
def test_drift_is_more_than_chance(value, by_chance, is_drift):
    assert Difference(name="score", value=value, by_chance=by_chance).is_drift is is_drift


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_rows": 6}, "num_rows=6 to be the sum"),
        ({"num_malignant": 5}, "num_malignant=5 <= num_lesions=4"),
        ({"num_with_image": 5}, "num_with_image=5 <= num_lesions=4"),
        ({"num_lesions": 0}, "num_lesions=0"),
    ],
)
def test_rows_add_up(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(EVALUATION.lesions, **change)


def test_figures_and_outcomes_come_together():
    with pytest.raises(ValueError, match="exactly with outcomes"):
        dataclasses.replace(EVALUATION, one_class=None)
    unlabelled = dataclasses.replace(EVALUATION.lesions, num_malignant=None)
    with pytest.raises(ValueError, match="exactly with outcomes"):
        dataclasses.replace(EVALUATION, lesions=unlabelled)
    dataclasses.replace(EVALUATION, lesions=unlabelled, one_class=None)


def test_other_documents_are_refused(tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="evaluation"):
        read_evaluation(path)
    with pytest.raises(ValueError, match="schema_version=2"):
        dataclasses.replace(EVALUATION, schema_version=2)
    with pytest.raises(ValueError, match="exactly with is_cosine"):
        dataclasses.replace(FEATURES, without_drift=None)
