"""The plots of the report, each embedded in the page as an address of its own, with a text for who cannot see it."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from server.report.epsilon_study import describe_epsilon_study, draw_epsilon_study
from server.report.evidence_plots import draw_decision, draw_forest, draw_precision_recall, draw_reliability
from server.report.plot_style import to_svg
from server.report.printed_numbers import format_number
from server.report.run_plots import draw_roc, draw_rounds
from server.report.stored_run import StoredRun
from server.results.evidence import Evidence
from shared_model.metrics.counts import ClassCounts
from shared_model.metrics.roc import roc_curve

GROUPS_TITLE = "Groups"
"""Title of the plot that stands beside the table of groups."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture of the report."""

    title: str
    alternative: str
    """What it shows, for who cannot see it."""
    source: str
    """A ``data:`` address."""
    is_wide: bool


def report_plots(run: StoredRun) -> list[Plot]:
    """Return the plots for which the run has what they show, in the order of the page."""
    results, evidence, counts = run.results, run.results.evidence, run.score_counts
    plots: list[Plot] = []
    if counts is not None and evidence is not None:
        plots += _score_plots(run, counts, evidence)
    plots.append(
        _plot(
            "Rounds",
            draw_rounds(results.rounds, results.sites, title=results.preset),
            f"Figures of merit over {len(results.rounds)} rounds, and the epsilon spent where training was private.",
            is_wide=True,
        )
    )
    if run.epsilon_study is not None:
        drawn, described = draw_epsilon_study(run.epsilon_study), describe_epsilon_study(run.epsilon_study)
        plots.append(_plot("AUC over epsilon", drawn, described, is_wide=True))
    forest = None if evidence is None else draw_forest(evidence)
    if forest is not None:
        described = "AUC, sensitivity and specificity of every group with intervals; the table below has the numbers."
        plots.append(_plot(GROUPS_TITLE, forest, described, is_wide=True))
    return plots


def _score_plots(run: StoredRun, counts: ClassCounts, evidence: Evidence) -> Iterator[Plot]:
    final, by_lesion = run.results.final, evidence.levels[0]
    yield _plot(
        "ROC curve",
        draw_roc(roc_curve(counts), final=final, band=run.roc_band, title=run.results.preset),
        f"ROC curve with an area of {format_number(final.auroc)}.",
    )
    precision = by_lesion.estimate("average_precision")
    yield _plot(
        "Precision and recall",
        draw_precision_recall(counts, precision),
        f"Precision over recall; average precision {format_number(precision.value if precision else None)}.",
    )
    error = by_lesion.estimate("calibration_error")
    if error is not None:
        yield _plot(
            "Calibration",
            draw_reliability(counts, error),
            f"Observed over predicted share of malignant lesions; calibration error {format_number(error.value)}.",
        )
    yield _plot(
        "Decision curve",
        draw_decision(counts),
        "Net benefit of acting on the network, on all lesions and on none, over the risk from which one acts.",
    )


def _plot(title: str, figure: Figure, alternative: str, *, is_wide: bool = False) -> Plot:
    source = "data:image/svg+xml;base64," + base64.b64encode(to_svg(figure)).decode()
    return Plot(title=title, alternative=alternative, source=source, is_wide=is_wide)
