"""The plots of a study: the AUC over epsilon, and of every network at every hospital."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from server.report.epsilon_study import EpsilonPoint, EpsilonStudy
from server.report.plot_style import FONT_SIZE, save_png
from simulations.studies.results import Row, mean_of, value_of


def epsilon_study(rows: Sequence[Row]) -> EpsilonStudy:
    """Return the AUC of every run that has one, with the epsilon promised."""
    estimates = [(row, row.estimate("auroc")) for row in rows]
    return EpsilonStudy(
        points=tuple(
            EpsilonPoint(seed=row.seed, epsilon=row.epsilon, auroc=auroc)
            for row, auroc in estimates
            if auroc is not None and auroc.value is not None
        )
    )


def site_aurocs(rows: Sequence[Row], sites: Sequence[str]) -> dict[str, list[float | None]]:
    """Return by run the AUC at each of ``sites``, mean over seeds; None where a seed has none."""
    names = dict.fromkeys(row.run for row in rows)
    return {
        name: [mean_of([value_of(row.auroc_at(site)) for row in rows if row.run == name]) for site in sites]
        for name in names
    }


def write_site_plot(path: Path, rows: Sequence[Row], sites: Sequence[str]) -> None:
    """Draw the AUC of every network (rows) at every hospital (columns), mean over seeds."""
    aurocs = site_aurocs(rows, sites)
    values = np.array([[np.nan if value is None else value for value in line] for line in aurocs.values()])
    figure = Figure(figsize=(1.6 + 1.1 * len(sites), 0.9 + 0.5 * len(aurocs)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(values, cmap="Blues", vmin=0.5, vmax=1.0, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.8 else "black"
        axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=FONT_SIZE)
    axes.set_xticks(range(len(sites)), [f"tested at {site}" for site in sites], fontsize=FONT_SIZE - 1)
    axes.set_yticks(range(len(aurocs)), list(aurocs), fontsize=FONT_SIZE - 1)
    save_png(figure, path)
