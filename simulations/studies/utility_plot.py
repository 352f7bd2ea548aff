"""The plot of the privacy-utility study: AUC over epsilon, beside what others published."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.report.plot_style import BLUE, FONT_SIZE, GREEN, GREY, VERMILLION, label_axes
from simulations.studies.privacy_utility import TARGET_EPSILONS
from simulations.studies.published_results import PUBLISHED, SWIN, SWIN_SYNTHETIC
from simulations.studies.utility_results import UtilityResult, find_result

_STYLES = {
    "image + reader columns": (GREEN, "^-"),
    "image + descriptors": (VERMILLION, "s-"),
    "image": (BLUE, "o-"),
    "image, each view by itself": ("#56B4E9", "D-"),
}
"""Colour and markers of the inputs that are drawn."""
_PUBLISHED_MARKERS = {SWIN: "x", SWIN_SYNTHETIC: "+"}


def draw_utility(results: Sequence[UtilityResult]) -> Figure:
    """Draw the AUC over epsilon with intervals over patients, the level without privacy, and the published points."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    epsilons = sorted(epsilon for epsilon in TARGET_EPSILONS if epsilon is not None)
    for place, name in enumerate(_STYLES):
        # Side by side, so that intervals do not hide each other.
        _draw_input(axes, results, name, epsilons=epsilons, shift=1.03 ** (place - 1.5))
    for method, marker in _PUBLISHED_MARKERS.items():
        points = [(row.epsilon, row.auroc) for row in PUBLISHED if row.method == method and row.epsilon is not None]
        axes.plot(*zip(*points, strict=True), marker, color=GREY, label=f"published: {method}")
    axes.set_xscale("log", base=2)
    ticks = sorted({*epsilons, *(row.epsilon for row in PUBLISHED if row.epsilon is not None)})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    label_axes(axes, x="epsilon (published: per image; ours: per patient); dashed: no privacy", y="AUC, official test")
    axes.legend(fontsize=FONT_SIZE - 2, frameon=False, loc="lower right")
    return figure


def _draw_input(
    axes: Axes, results: Sequence[UtilityResult], name: str, *, epsilons: Sequence[float], shift: float
) -> None:
    colour, style = _STYLES[name]
    private = [(epsilon * shift, find_result(results, name, epsilon)) for epsilon in epsilons]
    points = [(x, result) for x, result in private if result is not None]
    axes.plot([x for x, _ in points], [result.auroc for _, result in points], style, color=colour, label=name)
    for x, result in points:
        if result.interval is not None:
            axes.vlines(x, result.interval.low, result.interval.high, color=colour, alpha=0.4)
    without_privacy = find_result(results, name, None)
    if without_privacy is not None:
        axes.axhline(without_privacy.auroc, color=colour, linestyle="--", linewidth=1)
