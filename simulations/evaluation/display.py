"""What a person sees of an evaluation on the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from server.evaluation.estimates import ESTIMATE_LABELS
from server.report.printed_numbers import MISSING, format_number
from server.report.report_values import estimate_rows
from server.results.estimate import shown
from simulations.evaluation.document import Evaluation
from simulations.evaluation.page import feature_sentence, recalibration_rows

_SHOWN = ("auroc", "sensitivity", "specificity", "brier", "calibration_error")
"""Of all figures; the page has the others."""
_MAX_REASONS = 5


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print figures with 95 % intervals, what became of the rows, drift, and a recalibration if there was one."""
    lesions = evaluation.lesions
    console.print(
        f"{lesions.num_lesions} of {lesions.num_rows} rows scored, of {lesions.num_patients} patients; "
        f"{lesions.num_with_image} of {lesions.num_lesions} lesions have an image",
        highlight=False,
        soft_wrap=True,
    )
    for reason, count in list(lesions.rejected.items())[:_MAX_REASONS]:
        console.print(f"  set aside {count}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if len(lesions.rejected) > _MAX_REASONS:
        console.print("  and more, in rejects.csv", highlight=False)
    for note in lesions.notes:
        console.print(f"Note: {note}", highlight=False, markup=False, soft_wrap=True)
    _print_figures(evaluation, console)
    _print_drift(evaluation, console)
    _print_recalibration(evaluation, console)


def _print_figures(evaluation: Evaluation, console: Console) -> None:
    scores, threshold = evaluation.scores, evaluation.run.threshold
    title = f"{evaluation.run.preset}, seed {evaluation.run.seed}, on {escape(evaluation.lesions.name)}"
    table = Table(title=title)
    for name in ("figure", "by", "value (95% interval)"):
        table.add_column(name, justify="right" if name.startswith("value") else "left")
    for name, label, cells in estimate_rows(evaluation.evidence):
        if name in _SHOWN:
            for level, cell in zip(evaluation.evidence.levels, cells, strict=True):  # type: ignore[union-attr]
                table.add_row(label, level.level, cell)
    if evaluation.one_class is not None:
        for estimate in evaluation.one_class.figures:
            table.add_row(estimate.name, "lesion", shown(estimate))
    table.add_row("threshold, frozen", "", format_number(threshold))
    table.add_row("called malignant", "lesion", MISSING if scores.num_called is None else str(scores.num_called))
    table.add_row(
        "median score (5 to 95 %)",
        "lesion",
        f"{scores.quantiles[2]:.3f} ({scores.quantiles[0]:.3f} to {scores.quantiles[4]:.3f})",
    )
    console.print(table)


def _print_drift(evaluation: Evaluation, console: Console) -> None:
    drift = evaluation.drift
    if drift.num_reference_lesions is not None:
        table = Table(title=f"Drift from the run's own {drift.num_reference_lesions} test lesions")
        for name in ("what", "difference", "by chance", ""):
            table.add_column(name, justify="left" if name in {"what", ""} else "right")
        for difference in drift.differences:
            cells = (format_number(difference.value), format_number(difference.by_chance))
            table.add_row(difference.name.replace("_", " "), *cells, "more than chance" if difference.is_drift else "")
        console.print(table)
    console.print(feature_sentence(evaluation), highlight=False)


def _print_recalibration(evaluation: Evaluation, console: Console) -> None:
    found = evaluation.recalibration
    if found is None:
        return
    table = Table(title=f"Recalibration ({found.kind}): {found.num_lesions_left} lesions not used for it")
    for name in ("figure", "before", "after"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for before, after in recalibration_rows(evaluation):
        table.add_row(ESTIMATE_LABELS[before.name], shown(before), shown(after))
    console.print(table)
    console.print(
        f"From {found.num_lesions_used} lesions of {found.num_patients_used} patients, without noise: it stays at this "
        "machine and is never sent.",
        highlight=False,
        soft_wrap=True,
    )
