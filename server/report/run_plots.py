"""Plots of one run: the ROC curve, and AUROC, sensitivity and epsilon over the rounds."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from server.report.plot_style import BLUE, FONT_SIZE, GREEN, GREY, VERMILLION, bracket, label_axes
from server.results.document import AurocSource, FinalResult, RoundResult, SiteResult
from shared_model.metrics.bootstrap import RocBand
from shared_model.metrics.intervals import CONFIDENCE_LEVEL
from shared_model.metrics.roc import RocCurve

ROC_SIZE = (4.6, 4.9)
"""Width and height in inches."""
ROUNDS_SIZE = (6.4, 3.4)
"""Width, and height of a plot with one panel, in inches."""
EPSILON_HEIGHT = 2.0
"""Height in inches of the second panel, the epsilon spent."""

SITE_COLOURS = (VERMILLION, GREEN, "#CC79A7", "#56B4E9", "#E69F00", "#000000")
SITE_MARKERS = ("o", "s", "^", "D", "v", "P")
"""As many sites, those that have spent most, are named; the others share one marker."""


def draw_roc(
    curve: RocCurve, *, final: FinalResult, band: RocBand | None, title: str, origin: str | None = None
) -> Figure:
    """Draw a ROC curve with AUROC, operating point and target sensitivity.

    Args:
        curve: of the scores, or of a histogram.
        final: the metrics that the legend prints; intervals that are null are left out.
        band: interval of the curve, None where there are only histograms.
        title: what was tested, for instance preset and split.
        origin: where the lesions are from; None says what ``final`` says.
    """
    figure = Figure(figsize=ROC_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="chance")
    if band is not None:
        axes.fill_between(
            band.false_positive_rate,
            band.low,
            band.high,
            color=BLUE,
            alpha=0.18,
            linewidth=0,
            label=f"{CONFIDENCE_LEVEL:.0%} interval",
        )
    axes.plot(curve.false_positive_rate, curve.sensitivity, color=BLUE, linewidth=1.8, label=_auroc_label(final))
    _draw_operating_point(axes, final)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    label_axes(axes, x="1 - specificity (false-positive rate)", y="sensitivity (true-positive rate)")
    axes.set_title(f"{title}\n{_test_set(final, origin)}", fontsize=FONT_SIZE + 1)
    axes.legend(loc="lower right", fontsize=FONT_SIZE - 1, framealpha=0.9, edgecolor="none")
    return figure


def draw_rounds(rounds: Sequence[RoundResult], sites: Sequence[SiteResult], *, title: str) -> Figure:
    """Draw AUROC and sensitivity over the rounds and, where the run was private, the epsilon spent below them.

    A round that was not evaluated leaves a gap. The lower panel shows the largest epsilon of all sites after each
    round, and beside the last round what every site has spent.

    Raises:
        ValueError: there is no round.
    """
    if not rounds:
        raise ValueError("Expected at least one round to draw.")
    is_private = any(entry.epsilon is not None for entry in rounds)
    width, height = ROUNDS_SIZE
    figure = Figure(figsize=(width, height + EPSILON_HEIGHT * is_private), layout="constrained")
    panels = figure.subplots(
        1 + is_private, 1, sharex=True, squeeze=False, height_ratios=[height, EPSILON_HEIGHT][: 1 + is_private]
    )[:, 0]
    _draw_metrics(panels[0], rounds)
    if is_private:
        _draw_epsilon(panels[1], rounds, sites)
    panels[0].set_title(title, fontsize=FONT_SIZE + 1)
    panels[-1].set_xlabel("round", fontsize=FONT_SIZE)
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    return figure


def _auroc_label(final: FinalResult) -> str:
    if final.auroc is None:
        return "ROC curve"
    label, bound = f"AUROC {final.auroc:.3f}", final.auroc_site_histograms_error_bound
    if final.auroc_source is AurocSource.SITE_HISTOGRAMS and bound is not None:
        return f"{label} (binning error ≤ {math.ceil(bound * 1e4) / 1e4:.4f})"
    return label + bracket(final.auroc_interval)


def _test_set(final: FinalResult, origin: str | None) -> str:
    origins = {AurocSource.SERVER_HOLDOUT: "server holdout", AurocSource.SITE_HISTOGRAMS: "histograms of all sites"}
    patients = "" if final.num_patients is None else f" of {final.num_patients} patients"
    return f"{final.num_lesions} lesions{patients}, {origin or origins[final.auroc_source]}"


def _draw_operating_point(axes: Axes, final: FinalResult) -> None:
    axes.axhline(final.target_sensitivity, color=GREY, linestyle="--", linewidth=0.8)
    axes.annotate(
        f"target sensitivity {final.target_sensitivity:g}",
        (0.99, final.target_sensitivity),
        xytext=(0, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=FONT_SIZE - 2,
        color=GREY,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )
    if final.threshold is None or final.sensitivity is None or final.specificity is None:
        return
    label = (
        f"score ≥ {final.threshold:.3f}:\n"
        f"sensitivity {final.sensitivity:.3f}{bracket(final.sensitivity_interval)}\n"
        f"specificity {final.specificity:.3f}{bracket(final.specificity_interval)}"
    )
    point = (1 - final.specificity, final.sensitivity)
    style: dict[str, Any] = {"color": VERMILLION, "linewidth": 1.2, "zorder": 3}
    if final.sensitivity_interval is not None:
        axes.plot([point[0]] * 2, [final.sensitivity_interval.low, final.sensitivity_interval.high], **style)
    if final.specificity_interval is not None:
        axes.plot([1 - final.specificity_interval.low, 1 - final.specificity_interval.high], [point[1]] * 2, **style)
    axes.plot(*point, "o", color=VERMILLION, markeredgecolor="white", markersize=8, zorder=4, label=label)


def _draw_metrics(axes: Axes, rounds: Sequence[RoundResult]) -> None:
    numbers = [entry.round for entry in rounds]
    series = (
        ("AUROC", [entry.auroc for entry in rounds], BLUE, "o", "-"),
        ("sensitivity", [entry.sensitivity for entry in rounds], VERMILLION, "s", "--"),
    )
    lowest = 0.5
    for label, values, colour, marker, dash in series:
        heights = np.array([np.nan if value is None else value for value in values])
        axes.plot(numbers, heights, color=colour, marker=marker, linestyle=dash, markersize=4, label=label)
        lowest = min([lowest, *(value for value in values if value is not None)])
    axes.axhline(0.5, color=GREY, linestyle=":", linewidth=1, label="AUROC of chance")
    axes.set_ylim(max(0.0, lowest - 0.05) - 0.01, 1.02)
    label_axes(axes, x="", y="figure of merit")
    _legend_beside(axes)


def _draw_epsilon(axes: Axes, rounds: Sequence[RoundResult], sites: Sequence[SiteResult]) -> None:
    spent = np.array([np.nan if entry.epsilon is None else entry.epsilon for entry in rounds])
    numbers = [entry.round for entry in rounds]
    axes.step(numbers, spent, ".", where="post", linestyle="-", color=BLUE, linewidth=1.8, label="largest of all sites")
    totals = sorted(((site.epsilon, site.site) for site in sites if site.epsilon is not None), reverse=True)
    for (epsilon, name), marker, colour in zip(totals, SITE_MARKERS, SITE_COLOURS, strict=False):
        label = f"{name}: ε = {epsilon:.2f}"
        axes.plot(numbers[-1], epsilon, marker, markerfacecolor="none", color=colour, linestyle="none", label=label)
    others = [epsilon for epsilon, _ in totals[len(SITE_MARKERS) :]]
    if others:
        label = f"{len(others)} further sites"
        axes.plot([numbers[-1]] * len(others), others, "_", color=GREY, linestyle="none", label=label)
    axes.set_ylim(bottom=0)
    label_axes(axes, x="", y="ε spent per patient")
    _legend_beside(axes)


def _legend_beside(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=FONT_SIZE - 1, frameon=False, borderaxespad=0)
