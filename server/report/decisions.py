"""What the scores of a finished run would decide: beside a reader, in sets of labels, ruled out, where cancer is rarer.

``decisions.json`` in the run folder holds the figures for programs; what a run lacks for one of them stands in
``missing``. They follow from the other files of the folder, so that ``fedmammo server report`` writes them again.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from server.evaluation.conformal_coverage import MIN_PATIENTS, Coverage, coverage_by_level
from server.evaluation.patient_shares import Share
from server.evaluation.predictions import Predictions
from server.evaluation.prevalence_shift import PREVALENCES, WhatIf, what_if
from server.evaluation.rule_out import RuleOut, rule_out
from server.evaluation.second_reader import ASSESSMENT, SecondReader, second_reader
from server.results.document import Results
from shared_model.metrics.counts import IntArray
from shared_model.metrics.exact_interval import exact_interval
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.privacy.patient_histogram import PatientHistogram

DECISIONS_FILE = "decisions.json"
"""In the run folder, beside the report."""
SCHEMA_VERSION = 1
"""Of ``decisions.json``: raised whenever a key is added, removed or changes its meaning."""
NO_SCREENING_STUDY = (
    "every lesion had been found and marked: nothing is known of lesions that nobody saw, nor of healthy breasts",
    "far more lesions are malignant here than in screening",
    "test lesions of CBIS-DDSM are on films of the 1990s, of one country, scanned",
    "the reader is one or a few radiologists of that time, who saw other films and the history too",
    "the calls were put together afterwards: what somebody does who sees the network's answer is not known",
    "thresholds and sets are of lesions like these; nobody was followed up because of an answer",
)
"""Why these figures are of no screening study; said beside them."""
_NAMES = ("second_reader", "referral", "coverage", "rule_out", "what_if")
_TOO_FEW = f"Conformal sets need {MIN_PATIENTS} test patients of either class, and there are fewer."
WHAT_IF_WORDS = "This is arithmetic, not a measurement"
"""Stand before every figure of another prevalence."""


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The figures; each is empty or None where ``missing`` says why."""

    second_reader: SecondReader | None
    coverage: tuple[Coverage, ...]
    rule_out: tuple[RuleOut, ...]
    what_if: tuple[WhatIf, ...]
    missing: Mapping[str, str]
    """Name of a figure, as above or ``referral``, to what the run lacks for it, in a sentence."""


def decide(
    results: Results,
    predictions: Predictions | None,
    histogram: PatientHistogram | None,
    *,
    is_independent: bool,
    num_resamples: int,
) -> Decisions:
    """Return the figures, as far as the run has what they need.

    Args:
        results: of the run.
        predictions: of the server's own test lesions; None where it has none.
        histogram: of the training patients' scores; None where another group chose the threshold.
        is_independent: whether the network read nothing that the reader in the tables wrote.
        num_resamples: of the bootstrap over patients, >= 1.
    """
    if predictions is None:
        missing = dict.fromkeys(_NAMES, "The server has no test lesions of its own, and sites send no single scores.")
        return Decisions(second_reader=None, coverage=(), rule_out=(), what_if=(), missing=missing)
    seed = results.seed
    coverage = coverage_by_level(predictions, num_resamples=num_resamples, seed=seed)
    why_no_reader = _why_no_reader(predictions, results.final.threshold, is_independent=is_independent)
    reader = _second_reader(predictions, results, num_resamples) if not why_no_reader else None
    ruled_out: tuple[RuleOut, ...] = ()
    if histogram is not None:
        ruled_out = rule_out(predictions, histogram, num_resamples=num_resamples, seed=seed)
    shifted = _what_if(results, predictions, ruled_out)
    if reader is None:
        why_no_reader = (
            why_no_reader or "The test lesions that a reader assessed with 1 to 5 are none, or of one class."
        )
    reasons = {
        "second_reader": (reader, why_no_reader),
        "referral": (reader and reader.referred, why_no_reader or _TOO_FEW),
        "coverage": (coverage, _TOO_FEW),
        "rule_out": (ruled_out, _why_no_rule_out(histogram)),
        "what_if": (shifted, "There is no threshold with a sensitivity and a specificity on the test lesions."),
    }
    return Decisions(
        second_reader=reader,
        coverage=coverage,
        rule_out=ruled_out,
        what_if=shifted,
        missing={name: reason for name, (found, reason) in reasons.items() if not found},
    )


def _second_reader(predictions: Predictions, results: Results, num_resamples: int) -> SecondReader | None:
    threshold = results.final.threshold
    if threshold is None:
        return None
    return second_reader(predictions, threshold, num_resamples=num_resamples, seed=results.seed)


def _why_no_reader(predictions: Predictions, threshold: float | None, *, is_independent: bool) -> str:
    if threshold is None:
        return "The run has no operating threshold."
    if not is_independent:
        return (
            "The network reads what the same radiologist wrote; with model.modality=image or data.features=safe it "
            "does not."
        )
    return "" if ASSESSMENT in predictions.attributes else "The test lesions come without a radiologist's assessment."


def _why_no_rule_out(histogram: PatientHistogram | None) -> str:
    if histogram is None:
        return "No histogram of training patients chose the threshold, so that no other was frozen."
    return "Noise hides the training patients, or the test lesions are of one class."


def _what_if(results: Results, predictions: Predictions, ruled_out: tuple[RuleOut, ...]) -> tuple[WhatIf, ...]:
    final, evidence = results.final, results.evidence
    if evidence is None or final.threshold is None or final.sensitivity is None or final.specificity is None:
        return ()
    prevalences = tuple(sorted({evidence.prevalence, *PREVALENCES}))
    sensitivity = _share(final.sensitivity, final.sensitivity_interval, predictions.patients[predictions.labels == 1])
    specificity = _share(final.specificity, final.specificity_interval, predictions.patients[predictions.labels == 0])
    at_rule_out = (
        what_if(
            f"rule-out for sensitivity {row.target_sensitivity:g}",
            row.threshold,
            row.sensitivity,
            row.benign_ruled_out,
            prevalences,
        )
        for row in ruled_out
    )
    return (what_if("operating threshold", final.threshold, sensitivity, specificity, prevalences), *at_rule_out)


def _share(value: float, interval: ConfidenceInterval | None, patients: IntArray) -> Share:
    if value in (0, 1):
        # No resample differs, which says nothing: as shares beside a reader have it.
        num_patients = len(set(patients.tolist()))
        interval = exact_interval(int(value) * num_patients, num_patients)
    return Share(value=value, interval=interval)


def to_decisions_json(decisions: Decisions) -> str:
    """Return the document; an interval is ``[low, high]``, and a rule, level or target is found by its name."""
    reader = decisions.second_reader
    rules = () if reader is None else reader.rules
    values = {
        "schema_version": SCHEMA_VERSION,
        "operating_threshold": _at_threshold(decisions),
        "second_reader": None
        if reader is None
        else {**_fields(reader), "rules": {str(entry.rule): _fields(entry) for entry in rules}},
        "coverage": {f"{entry.level:g}": _fields(entry) for entry in decisions.coverage},
        "rule_out": {f"{entry.target_sensitivity:g}": _fields(entry) for entry in decisions.rule_out},
        "what_if": {entry.name: _fields(entry) for entry in decisions.what_if},
        "what_if_is": WHAT_IF_WORDS,
        "no_screening_study": NO_SCREENING_STUDY,
        "missing": decisions.missing,
    }
    return json.dumps(values, indent=2, allow_nan=False, default=_plain) + "\n"


def _at_threshold(decisions: Decisions) -> dict[str, object] | None:
    if not decisions.what_if:
        return None
    first = decisions.what_if[0]
    return {"threshold": first.threshold, "sensitivity": first.sensitivity, "specificity": first.specificity}


def _fields(value: object) -> dict[str, object]:
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        raise TypeError(f"Expected figures, got {type(value).__name__}.")
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _plain(value: object) -> object:
    return [value.low, value.high] if isinstance(value, ConfidenceInterval) else _fields(value)
