"""The page of an evaluation: one HTML file in the look of the run's report, of whose pieces it is made."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from server.evaluation.estimates import ESTIMATE_LABELS, SMALL_GROUP_PATIENTS, roc_band
from server.evaluation.predictions import Predictions
from server.report.evidence_plots import PANEL_SIZE, draw_reliability
from server.report.plot_style import BLUE, FONT_SIZE, GREY, label_axes
from server.report.printed_numbers import format_interval, format_number
from server.report.report_plots import (
    GROUPS_TITLE,
    Drawing,
    draw_plots,
    group_drawing,
    roc_drawing,
    score_drawings,
    to_plot,
)
from server.report.report_values import estimate_rows, template_environment, worst_errors
from server.results.document import AurocSource, FinalResult
from server.results.estimate import Estimate
from server.results.evidence import Evidence, Level
from shared_model.metrics.counts import ClassCounts
from simulations.evaluation.document import NUM_SCORE_BINS, Evaluation
from simulations.evaluation.finished_model import FinishedModel
from simulations.evaluation.recalibration import Recalibrated


def to_html(
    evaluation: Evaluation, model: FinishedModel, predictions: Predictions, recalibrated: Recalibrated | None
) -> str:
    """Return the whole page.

    Args:
        evaluation: what was found.
        model: of the run.
        predictions: of the lesions; labels count where ``evaluation`` has outcomes.
        recalibrated: the lesions on which a recalibration is shown.
    """
    evidence = evaluation.evidence
    has_outcomes = evaluation.lesions.num_malignant is not None
    template = template_environment("simulations.evaluation").get_template("evaluation.html")
    return template.render(
        evaluation=evaluation,
        evidence=evidence,
        by_lesion=None if evidence is None else evidence.level(Level.LESION),
        estimate_rows=estimate_rows(evidence),
        small_group_patients=SMALL_GROUP_PATIENTS,
        worst_errors=worst_errors(predictions if has_outcomes else None, model.threshold),
        plots=draw_plots(_drawings(evaluation, model, predictions, recalibrated)),
        groups_title=GROUPS_TITLE,
        recalibration_rows=recalibration_rows(evaluation),
        labels=ESTIMATE_LABELS,
        feature_sentence=feature_sentence(evaluation),
    )


def recalibration_rows(evaluation: Evaluation) -> list[tuple[Estimate, Estimate]]:
    """Return every figure before and after recalibration; none without one."""
    found = evaluation.recalibration
    return [] if found is None else list(zip(found.before, found.after, strict=True))


def feature_sentence(evaluation: Evaluation) -> str:
    """Return what the mean of the image features says about drift."""
    features = evaluation.drift.features
    if features is None:
        return "The network has no constants from features of other patients, or saw no image: no drift of features."
    value = f"{features.value:.3f} ({format_interval(features.interval)})"
    if features.is_cosine:
        return (
            f"The mean of the image features has a cosine of {value} with that of the training patients; without drift "
            f"it would be about {format_number(features.without_drift)}, as the training mean has privacy noise."
        )
    return (
        f"The mean of the standardised image features has a length of {value} of their root mean square; 0 would be the"
        " mean of the public patients by whom they were standardised."
    )


def _drawings(
    evaluation: Evaluation, model: FinishedModel, predictions: Predictions, recalibrated: Recalibrated | None
) -> Iterator[Drawing]:
    evidence, counts = evaluation.evidence, predictions.counts
    if evidence is not None and counts is not None:
        band = roc_band(predictions, model.config.evaluation.bootstrap_resamples, model.config.seed)
        yield roc_drawing(
            counts,
            _final_result(evaluation, evidence, model),
            band,
            tested=evaluation.run.preset,
            origin=evaluation.lesions.name,
        )
        yield from score_drawings(counts, evidence)
    yield (
        "Scores",
        lambda title: [to_plot(title, draw_scores(evaluation, model.predictions), _scores_in_words(evaluation))],
    )
    if recalibrated is not None:
        yield from _recalibration_drawings(recalibrated)
    if evidence is not None:
        yield group_drawing(evidence)


def _recalibration_drawings(recalibrated: Recalibrated) -> Iterator[Drawing]:
    result = recalibrated.result
    yield _reliability_drawing("before", recalibrated.before, result.before)
    yield _reliability_drawing("after", recalibrated.after, result.after)


def _reliability_drawing(when: str, predictions: Predictions, figures: Sequence[Estimate]) -> Drawing:
    counts = ClassCounts.from_scores(predictions.labels, predictions.scores)
    error = next((figure for figure in figures if figure.name == "calibration_error"), None)
    described = f"Observed over predicted share of malignant lesions {when} recalibration, of lesions not used for it."
    return (
        f"Calibration {when} recalibration",
        lambda title: [to_plot(title, draw_reliability(counts, error), described)],
    )


def _final_result(evaluation: Evaluation, evidence: Evidence, model: FinishedModel) -> FinalResult:
    """Return the run's final figures with those of these lesions in their place, for the legend of the ROC curve."""
    by_lesion = evidence.levels[0]
    values: dict[str, Any] = {}
    for name in ("auroc", "sensitivity", "specificity"):
        estimate = by_lesion.estimate(name)
        values[name] = None if estimate is None else estimate.value
        values[f"{name}_interval"] = None if estimate is None else estimate.interval
    return dataclasses.replace(
        model.results.final,
        **values,
        auroc_source=AurocSource.SERVER_HOLDOUT,
        num_lesions=evaluation.lesions.num_lesions,
        num_patients=evaluation.lesions.num_patients,
    )


def draw_scores(evaluation: Evaluation, own: Predictions | None) -> Figure:
    """Draw the share of lesions by score, beside that of the run's own test lesions where its folder has them."""
    figure = Figure(figsize=PANEL_SIZE, layout="constrained")
    axes, edges = figure.add_subplot(), np.linspace(0, 1, NUM_SCORE_BINS + 1)
    counts = np.array(evaluation.scores.bins)
    axes.stairs(counts / counts.sum(), edges, color=BLUE, fill=True, alpha=0.3)
    axes.stairs(counts / counts.sum(), edges, color=BLUE, linewidth=1.4, label=f"here ({counts.sum()} lesions)")
    if own is not None:
        of_own = np.histogram(own.scores, edges)[0]
        named = f"the run's own test ({len(own.scores)})"
        axes.stairs(of_own / of_own.sum(), edges, color=GREY, linewidth=1.4, linestyle="--", label=named)
    if evaluation.run.threshold is not None:
        axes.axvline(evaluation.run.threshold, color=GREY, linestyle=":", linewidth=1, label="threshold")
    axes.set(xlim=(-0.01, 1.01))
    label_axes(axes, x="score", y="share of lesions")
    axes.legend(fontsize=FONT_SIZE - 1, framealpha=0.9, edgecolor="none")
    return figure


def _scores_in_words(evaluation: Evaluation) -> str:
    low, *_, high = evaluation.scores.quantiles
    return f"Share of lesions by score; 90 % of the scores lie between {low:.3f} and {high:.3f}."
