"""The plots of the report, each embedded in the page as an address of its own, with a text for who cannot see it."""

import base64
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from server.report.epsilon_study import describe_epsilon_study, draw_epsilon_study
from server.report.evidence_plots import draw_decision, draw_forest, draw_precision_recall, draw_reliability
from server.report.plot_style import left_out_if_it_fails, to_svg
from server.report.printed_numbers import format_number
from server.report.run_plots import draw_roc, draw_rounds
from server.report.stored_run import StoredRun
from server.results.document import FinalResult, Results
from server.results.estimate import Estimate
from server.results.evidence import Evidence
from shared_model.metrics.bootstrap import RocBand
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


Drawing = tuple[str, Callable[[str], list[Plot]]]
"""The title of a plot, and what draws it."""


def report_plots(run: StoredRun) -> list[Plot]:
    """Return the plots for which the run has what they show, in the order of the page.

    One that cannot be drawn is left out with a warning.
    """
    return draw_plots(_drawings(run))


def draw_plots(drawings: Iterable[Drawing]) -> list[Plot]:
    """Return what is drawn, in order; what cannot be drawn is left out with a warning."""
    plots: list[Plot] = []
    for title, draw in drawings:
        with left_out_if_it_fails(f"the plot {title}"):
            plots += draw(title)
    return plots


def _drawings(run: StoredRun) -> Iterator[Drawing]:
    counts, evidence, study = run.score_counts, run.results.evidence, run.epsilon_study
    if counts is not None and evidence is not None:
        yield roc_drawing(counts, run.results.final, run.roc_band, tested=run.results.preset)
        yield from score_drawings(counts, evidence)
    yield "Rounds", lambda title: [_rounds_plot(title, run.results)]
    if study is not None:
        yield (
            "AUC over epsilon",
            lambda title: [to_plot(title, draw_epsilon_study(study), describe_epsilon_study(study), is_wide=True)],
        )
    if evidence is not None:
        yield group_drawing(evidence)


def group_drawing(evidence: Evidence) -> Drawing:
    """Return the plot of the groups, which is empty where there are none to compare."""
    return GROUPS_TITLE, lambda title: _forest_plot(title, evidence)


def roc_drawing(
    counts: ClassCounts, final: FinalResult, band: RocBand | None, *, tested: str, origin: str | None = None
) -> Drawing:
    """Return the ROC curve of ``counts`` with its band and the figures of ``final``.

    What was tested, and where it is from, are ``tested`` and ``origin`` of ``draw_roc``.
    """

    def draw(title: str) -> list[Plot]:
        figure = draw_roc(roc_curve(counts), final=final, band=band, title=tested, origin=origin)
        return [to_plot(title, figure, f"ROC curve with an area of {format_number(final.auroc)}.")]

    return "ROC curve", draw


def score_drawings(counts: ClassCounts, evidence: Evidence) -> Iterator[Drawing]:
    """Yield the other plots of lesions by score: precision, calibration where scores are exact, and net benefit."""
    by_lesion = evidence.levels[0]
    yield (
        "Precision and recall",
        lambda title: [_precision_plot(title, counts, by_lesion.estimate("average_precision"))],
    )
    error = by_lesion.estimate("calibration_error")
    if error is not None:
        described = (
            f"Observed over predicted share of malignant lesions; calibration error {format_number(error.value)}."
        )
        yield "Calibration", lambda title: [to_plot(title, draw_reliability(counts, error), described)]
    yield "Decision curve", lambda title: [_decision_plot(title, counts)]


def _rounds_plot(title: str, results: Results) -> Plot:
    described = f"Figures of merit over {len(results.rounds)} rounds, and the epsilon spent where training was private."
    drawn = draw_rounds(results.rounds, results.sites, title=results.preset)
    return to_plot(title, drawn, described, is_wide=True)


def _precision_plot(title: str, counts: ClassCounts, precision: Estimate | None) -> Plot:
    described = f"Precision over recall; average precision {format_number(precision.value if precision else None)}."
    return to_plot(title, draw_precision_recall(counts, precision), described)


def _decision_plot(title: str, counts: ClassCounts) -> Plot:
    described = "Net benefit of acting on the network, on all lesions and on none, over the risk from which one acts."
    return to_plot(title, draw_decision(counts), described)


def _forest_plot(title: str, evidence: Evidence) -> list[Plot]:
    """Return nothing where there are no groups to compare."""
    forest = draw_forest(evidence)
    described = "AUC, sensitivity and specificity of every group with intervals; the table below has the numbers."
    return [] if forest is None else [to_plot(title, forest, described, is_wide=True)]


def to_plot(title: str, figure: Figure, alternative: str, *, is_wide: bool = False) -> Plot:
    """Return a figure as it is embedded in a page."""
    source = "data:image/svg+xml;base64," + base64.b64encode(to_svg(figure)).decode()
    return Plot(title=title, alternative=alternative, source=source, is_wide=is_wide)
