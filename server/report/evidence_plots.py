"""Plots of the final network on the test lesions: precision-recall, reliability, decision curve and forest plot."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import binomtest

from server.report.plot_style import BLUE, FONT_SIZE, GREEN, GREY, VERMILLION, bracket, label_axes
from server.results.estimate import Estimate
from server.results.evidence import Evidence, GroupResult
from shared_model.metrics.calibration import net_benefit, net_benefit_of_treating_all, reliability_curve
from shared_model.metrics.counts import ClassCounts
from shared_model.metrics.intervals import CONFIDENCE_LEVEL
from shared_model.metrics.ranking import precision_recall_curve

PANEL_SIZE = (4.6, 4.4)
"""Width and height in inches."""
FOREST_WIDTH, FOREST_ROW = 7.4, 0.21
"""Width and height of a row in inches."""
_DECISION_THRESHOLDS = np.linspace(0.01, 0.99, 99)
"""Risks from which one would act, as a probability of malignancy."""
_FOREST_METRICS = (
    ("auroc", "AUC", BLUE),
    ("sensitivity", "sensitivity", VERMILLION),
    ("specificity", "specificity", GREEN),
)


def draw_precision_recall(counts: ClassCounts, average_precision: Estimate | None) -> Figure:
    """Draw PPV over sensitivity; chance is the share of malignant lesions."""
    figure, axes = _panel()
    curve = precision_recall_curve(counts)
    prevalence = counts.prevalence
    axes.axhline(prevalence, color=GREY, linestyle=":", linewidth=1, label=f"chance: {prevalence:.3f}")
    # Steps, as average precision counts them: no threshold reaches the points on a straight line between two others.
    axes.step(
        np.concatenate(([0.0], curve.sensitivity)),
        np.concatenate((curve.ppv[:1], curve.ppv)),
        where="pre",
        color=BLUE,
        linewidth=1.8,
        label=_label("average precision", average_precision),
    )
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    label_axes(axes, x="sensitivity (recall)", y="PPV (precision)")
    _legend(axes, "lower left")
    return figure


def draw_reliability(counts: ClassCounts, calibration_error: Estimate | None) -> Figure:
    """Draw the observed over the predicted share of malignant lesions, with Wilson intervals, and lesions per bin."""
    figure = Figure(figsize=PANEL_SIZE, layout="constrained")
    axes, bars = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    curve = reliability_curve(counts)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="perfect")
    intervals = [
        binomtest(int(k), int(n)).proportion_ci(CONFIDENCE_LEVEL, method="wilson")
        for k, n in zip(curve.num_positives, curve.num_lesions, strict=True)
    ]
    axes.vlines(curve.predicted, [ci.low for ci in intervals], [ci.high for ci in intervals], color=BLUE, linewidth=1)
    axes.plot(
        curve.predicted,
        curve.observed,
        "o-",
        color=BLUE,
        markersize=5,
        label=_label("calibration error", calibration_error),
    )
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    label_axes(axes, x="", y="observed share malignant")
    _legend(axes, "upper left")
    bars.bar(curve.predicted, curve.num_lesions, width=0.03, color=GREY)
    label_axes(bars, x="predicted probability", y="lesions")
    return figure


def draw_decision(counts: ClassCounts) -> Figure:
    """Draw the decision curve (Vickers and Elkin 2006): net benefit over the risk from which one would act.

    The share of malignant lesions is that of the test set.
    """
    figure, axes = _panel()
    prevalence = counts.prevalence
    model = [net_benefit(float(threshold))(counts) or 0.0 for threshold in _DECISION_THRESHOLDS]
    everyone = [net_benefit_of_treating_all(float(threshold), prevalence) for threshold in _DECISION_THRESHOLDS]
    axes.plot(_DECISION_THRESHOLDS, model, color=BLUE, linewidth=1.8, label="act on the network")
    axes.plot(_DECISION_THRESHOLDS, everyone, color=VERMILLION, linestyle="--", linewidth=1.2, label="act on all")
    axes.axhline(0, color=GREY, linestyle=":", linewidth=1, label="act on none")
    axes.set(xlim=(0, 1), ylim=(-0.05 - 0.1 * prevalence, prevalence * 1.08))
    label_axes(axes, x="risk from which one acts", y="net benefit (true positives a lesion)")
    _legend(axes, "upper right")
    return figure


def draw_forest(evidence: Evidence) -> Figure | None:
    """Draw AUC, sensitivity and specificity of every group with intervals; None without groups."""
    if not evidence.groups:
        return None
    groups = list(evidence.groups)
    figure = Figure(figsize=(FOREST_WIDTH, 1.1 + FOREST_ROW * len(groups)), layout="constrained")
    panels = figure.subplots(1, len(_FOREST_METRICS), sharey=True)
    heights = _row_heights(groups)
    for axes, (name, title, colour) in zip(panels, _FOREST_METRICS, strict=True):
        all_lesions = evidence.levels[0].estimate(name)
        if all_lesions is not None and all_lesions.value is not None:
            axes.axvline(all_lesions.value, color=GREY, linestyle="--", linewidth=0.9)
        for group, height in zip(groups, heights, strict=True):
            _draw_row(axes, group.estimate(name), height, colour=colour, is_hollow=group.is_small)
        axes.set(xlim=(-0.03, 1.03), ylim=(max(heights) + 0.8, -0.8))
        label_axes(axes, x=title, y="")
    panels[0].set_yticks(heights, [_row_name(group) for group in groups])
    return figure


def _draw_row(axes: Axes, estimate: Estimate | None, height: float, *, colour: str, is_hollow: bool) -> None:
    if estimate is None or estimate.value is None:
        return
    if estimate.interval is not None:
        axes.hlines(height, estimate.interval.low, estimate.interval.high, color=colour, linewidth=1.4)
    axes.plot(estimate.value, height, "o", color=colour, markerfacecolor="white" if is_hollow else colour, markersize=5)


def _row_heights(groups: Sequence[GroupResult]) -> list[float]:
    """Return the place of every row on the vertical axis, with a gap between attributes."""
    heights: list[float] = []
    for row, group in enumerate(groups):
        is_new_attribute = row > 0 and group.attribute != groups[row - 1].attribute
        heights.append(0.0 if not heights else heights[-1] + (1.6 if is_new_attribute else 1.0))
    return heights


def _row_name(group: GroupResult) -> str:
    name = f"{group.attribute} {group.value}".replace("_", " ")
    if group.attribute == "pathology":
        name = name.lower()
    return f"{name}  ({group.num_malignant}/{group.num_lesions})"


def _label(name: str, estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return name
    return f"{name} {estimate.value:.3f}{bracket(estimate.interval)}"


def _panel() -> tuple[Figure, Axes]:
    figure = Figure(figsize=PANEL_SIZE, layout="constrained")
    return figure, figure.add_subplot()


def _legend(axes: Axes, place: Literal["lower left", "upper left", "upper right"]) -> None:
    axes.legend(loc=place, fontsize=FONT_SIZE - 1, framealpha=0.9, edgecolor="none")
