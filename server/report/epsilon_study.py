"""A study over epsilon: runs that differ only in seed and promised epsilon, so that one shows what privacy costs.

Every run of the study has the same file in its folder, so that its report can show the AUC of all of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from matplotlib.figure import Figure

from server.report.plot_style import BLUE, FONT_SIZE, GREY, label_axes
from server.results.estimate import Estimate
from shared_model.config.bounds import NotNegative
from shared_model.system.checked import build, checked, rule
from shared_model.system.documents import from_json, to_json
from shared_model.system.files import write_atomically

EPSILON_STUDY_FILE = "sweep.json"
"""In the run folder of every run of the study."""


@checked(error=ValueError)
class EpsilonPoint:
    """One run of the study."""

    seed: int
    epsilon: NotNegative | None
    """Promised to every training patient; null without privacy."""
    auroc: Annotated[Estimate, rule(lambda estimate: estimate.value is not None, "with a value")]


@checked(error=ValueError)
class EpsilonStudy:
    """All runs of the study."""

    points: tuple[EpsilonPoint, ...]
    """One for every run, in any order."""

    @property
    def epsilons(self) -> list[float]:
        """The epsilons promised, ascending, each once; runs without privacy have none."""
        return sorted({point.epsilon for point in self.points if point.epsilon is not None})

    def mean_auroc(self, epsilon: float | None) -> float | None:
        """Return the mean AUC over the runs that promised ``epsilon``; None where there are none."""
        values = [point.auroc.value for point in self.points if point.epsilon == epsilon]
        return float(np.mean(np.array(values, dtype=np.float64))) if values else None


def write_epsilon_study(study: EpsilonStudy, folder: Path) -> None:
    """Write the study into the folder of a run, whole or not at all."""
    write_atomically(folder / EPSILON_STUDY_FILE, to_json(study).encode())


def read_epsilon_study(folder: Path) -> EpsilonStudy | None:
    """Read the study that a run belongs to; None where it belongs to none.

    Raises:
        ValueError: the file has other content.
    """
    path = folder / EPSILON_STUDY_FILE
    if not path.exists():
        return None
    return build(EpsilonStudy, from_json(path.read_text(encoding="utf-8")), path=EPSILON_STUDY_FILE)


def draw_epsilon_study(study: EpsilonStudy) -> Figure:
    """Draw the AUC over epsilon: the mean over seeds, every run's interval, and a line at the AUC without privacy."""
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for point in study.points:
        if point.epsilon is not None and point.auroc.interval is not None:
            axes.vlines(point.epsilon, point.auroc.interval.low, point.auroc.interval.high, color=BLUE, alpha=0.35)
    epsilons = study.epsilons
    means = np.array([study.mean_auroc(epsilon) for epsilon in epsilons], dtype=np.float64)
    axes.plot(epsilons, means, "o-", color=BLUE, label="private, mean over seeds")
    without_privacy = study.mean_auroc(None)
    if without_privacy is not None:
        label = f"no privacy: {without_privacy:.3f}"
        axes.axhline(without_privacy, color=GREY, linestyle="--", linewidth=1, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
    label_axes(axes, x="epsilon promised to every patient", y="AUC")
    axes.legend(fontsize=FONT_SIZE - 1, frameon=False, loc="lower right")
    return figure


def describe_epsilon_study(study: EpsilonStudy) -> str:
    """Return in a sentence what the plot shows, for who cannot see it."""

    def described(epsilon: float | None) -> str:
        """Return the mean AUC at ``epsilon`` in words."""
        value = study.mean_auroc(epsilon)
        return "-" if value is None else f"{value:.3f} at {'no privacy' if epsilon is None else f'epsilon {epsilon:g}'}"

    epsilons: Sequence[float | None] = study.epsilons if study.mean_auroc(None) is None else [*study.epsilons, None]
    return f"AUC over epsilon, means over seeds: {', '.join(described(epsilon) for epsilon in epsilons)}."
