"""AUC over epsilon: the runs that differ in nothing but the promise, beside which one of them is to be read."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Drawing

from server.report.run_figures import BLUE, FONT_SIZE, GREY, label_axes
from server.results.evidence import Figure
from server.results.strict_json import build, check, check_range, from_text, to_text
from shared_model.system.files import write_atomically

SWEEP_FILE = "sweep.json"
"""Beside the results of every run of the sweep; ``simulations.studies.study`` writes it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """One run."""

    seed: int
    epsilon: float | None
    """Promised to every training patient; null without privacy."""
    auroc: Figure

    def __post_init__(self) -> None:
        check_range(self, 0, None, "epsilon")
        check(self, "auroc", self.auroc.value is not None, "with a value")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """All runs."""

    points: tuple[SweepPoint, ...]

    @property
    def epsilons(self) -> list[float]:
        """The promises made, ascending."""
        return sorted({point.epsilon for point in self.points if point.epsilon is not None})

    def mean_auroc(self, epsilon: float | None) -> float | None:
        """Return the mean over the runs with this promise; None where there is none."""
        found = [point.auroc.value for point in self.points if point.epsilon == epsilon]
        return float(np.mean(np.array(found, dtype=np.float64))) if found else None


def write_sweep(sweep: Sweep, folder: Path) -> None:
    """Write the sweep into the folder of a run, whole or not at all."""
    write_atomically(folder / SWEEP_FILE, to_text(sweep).encode())


def read_sweep(folder: Path) -> Sweep | None:
    """Read the sweep that a run belongs to, None where it belongs to none.

    Raises:
        ValueError: it is no such file.
    """
    path = folder / SWEEP_FILE
    return build(Sweep, from_text(path.read_text(encoding="utf-8")), SWEEP_FILE) if path.exists() else None


def draw_sweep(sweep: Sweep) -> Drawing:
    """Draw the AUC over epsilon, with the interval over patients of every run, and the level without privacy."""
    figure = Drawing(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for point in sweep.points:
        if point.epsilon is not None and point.auroc.interval is not None:
            axes.vlines(point.epsilon, point.auroc.interval.low, point.auroc.interval.high, color=BLUE, alpha=0.35)
    epsilons = sweep.epsilons
    means = np.array([sweep.mean_auroc(epsilon) for epsilon in epsilons], dtype=np.float64)
    axes.plot(epsilons, means, "o-", color=BLUE, label="private, mean over seeds")
    free = sweep.mean_auroc(None)
    if free is not None:
        axes.axhline(free, color=GREY, linestyle="--", linewidth=1, label=f"no privacy: {free:.3f}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
    label_axes(axes, x="epsilon promised to every patient", y="AUC")
    axes.legend(fontsize=FONT_SIZE - 1, frameon=False, loc="lower right")
    return figure


def sweep_in_words(sweep: Sweep) -> str:
    """Return what the drawing shows, for who cannot see it."""

    def named(epsilon: float | None) -> str:
        value = sweep.mean_auroc(epsilon)
        return "-" if value is None else f"{value:.3f} at {'no privacy' if epsilon is None else f'epsilon {epsilon:g}'}"

    asked: Sequence[float | None] = sweep.epsilons if sweep.mean_auroc(None) is None else [*sweep.epsilons, None]
    return f"AUC over epsilon, means over seeds: {', '.join(named(epsilon) for epsilon in asked)}."
