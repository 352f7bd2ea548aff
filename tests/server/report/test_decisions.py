"""What the scores would decide: each figure or the reason for none, and one document for programs."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from server.evaluation.predictions import Predictions
from server.evaluation.rule_out import TARGETS
from server.report.decisions import DECISIONS_FILE, WHAT_IF_WORDS, decide, to_decisions_json
from server.report.html_report import REPORT_FILE, to_html, write_report
from server.report.model_card import MODEL_CARD_FILE
from server.report.stored_run import StoredRun
from shared_model.privacy.patient_histogram import PatientHistogram

HISTOGRAM = PatientHistogram(
    negatives=np.array([120.0, 80, 60, 30, 15, 5]), positives=np.array([3.0, 10, 25, 60, 90, 110]), noise_std=0.0
)


@pytest.fixture(scope="module")
def results(finished_run):
    return StoredRun.load(finished_run).results


def cohort(num_patients=160, **attributes):
    generator = np.random.default_rng(0)
    labels = np.arange(num_patients) % 2
    scores = 1 / (1 + np.exp(-generator.normal(2 * (labels - 0.5))))
    return Predictions(labels=labels, scores=scores, patients=np.arange(num_patients), attributes=attributes)


def assessed(num_patients=160):
    return cohort(num_patients, assessment=tuple("4" if row % 3 else "2" for row in range(num_patients)))


def decided(results, predictions, histogram=HISTOGRAM, *, is_independent=True):
    return decide(results, predictions, histogram, is_independent=is_independent, num_resamples=20)


def without_threshold(results):
    names = ("threshold", "sensitivity", "specificity", "sensitivity_interval", "specificity_interval")
    return dataclasses.replace(results, final=dataclasses.replace(results.final, **dict.fromkeys(names)))


def test_a_run_that_has_all_misses_nothing(results):
    found = decided(results, assessed())
    assert found.missing == {}
    assert [row.target_sensitivity for row in found.rule_out] == list(TARGETS)
    assert [entry.name for entry in found.what_if] == [
        "operating threshold", *(f"rule-out for sensitivity {target:g}" for target in TARGETS),
    ]  # fmt: skip
    assert [row.prevalence for row in found.what_if[0].rows] == sorted({results.evidence.prevalence, 0.05, 0.25})


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"predictions": None}, {"second_reader", "referral", "coverage", "rule_out", "what_if"}),
        ({"predictions": cohort()}, {"second_reader", "referral"}),
        ({"predictions": assessed(40)}, {"referral", "coverage"}),
        ({"is_independent": False}, {"second_reader", "referral"}),
        ({"predictions": cohort(assessment=("0",) * 160)}, {"second_reader", "referral"}),
        ({"histogram": None}, {"rule_out"}),
        ({"histogram": PatientHistogram(negatives=np.ones(6), positives=np.ones(6), noise_std=100.0)}, {"rule_out"}),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(results, change, missing):
    values = {"predictions": assessed(), "histogram": HISTOGRAM, "is_independent": True, **change}
    predictions, histogram = values["predictions"], values["histogram"]
    found = decided(results, predictions, histogram, is_independent=values["is_independent"])
    assert set(found.missing) == missing
    assert all(reason.endswith(".") and len(reason) > 20 for reason in found.missing.values())
    assert (found.second_reader is None) == ("second_reader" in missing)
    if "second_reader" in missing:
        assert found.missing["referral"] == found.missing["second_reader"]
    assert (found.coverage == ()) == ("coverage" in missing)
    assert (found.rule_out == ()) == ("rule_out" in missing)


def test_without_a_threshold_nothing_is_called(results):
    found = decided(without_threshold(results), assessed())
    assert set(found.missing) == {"second_reader", "referral", "what_if"}
    assert found.coverage


def test_a_sensitivity_of_one_is_not_sure_elsewhere(results):
    final = dataclasses.replace(results.final, sensitivity=1.0, sensitivity_interval=None)
    found = decided(dataclasses.replace(results, final=final), assessed())
    assert 0.9 < found.what_if[0].sensitivity.interval.low < 1
    assert found.what_if[0].rows[0].missed.value == 0
    assert found.what_if[0].rows[0].missed.interval.high > 0


def test_the_document_finds_figures_by_name(results):
    found = decided(results, assessed())
    values = json.loads(to_decisions_json(found))
    referral = values["second_reader"]["rules"]["referral"]
    entry = found.second_reader.rules[-1]
    assert referral["sensitivity"]["value"] == entry.sensitivity.value
    assert referral["sensitivity"]["interval"] == [entry.sensitivity.interval.low, entry.sensitivity.interval.high]
    assert list(values["coverage"]) == ["0.8", "0.9", "0.95"]
    assert values["rule_out"]["0.98"]["missed"] == found.rule_out[1].missed
    assert values["what_if"]["operating threshold"]["rows"][0]["ppv"]["value"] == found.what_if[0].rows[0].ppv.value
    assert values["what_if_is"] == WHAT_IF_WORDS
    at_threshold = values["operating_threshold"]
    assert (at_threshold["threshold"], at_threshold["sensitivity"]["value"]) == (
        results.final.threshold, results.final.sensitivity,
    )  # fmt: skip
    empty = json.loads(to_decisions_json(decided(results, None)))
    assert set(empty) == set(values)
    assert (empty["second_reader"], empty["operating_threshold"]) == (None, None)


def test_report_and_card_say_it_with_its_words(finished_run, tmp_path):
    folder = shutil.copytree(finished_run, tmp_path / "run")
    write_report(folder)
    run = StoredRun.load(folder)
    assert json.loads((folder / DECISIONS_FILE).read_text()) == json.loads(to_decisions_json(run.decisions))
    full = dataclasses.replace(run, decisions=decided(run.results, assessed()))
    page = to_html(full)
    for name in ("second-reader", "coverage", "rule-out", "what-if"):
        assert f'<h3 id="{name}">' in page
    assert '<h3 id="decisions-missing">' not in page
    assert page.index(WHAT_IF_WORDS) < page.index("Prevalence, assumed")
    for text in (page, (folder / REPORT_FILE).read_text(), (folder / MODEL_CARD_FILE).read_text()):
        assert "far more lesions are malignant here than in screening" in text
