"""What privacy costs the diagnosis: the study of ``simulations.studies.privacy_utility``, run and reported."""

from rich.console import Console

from server.evaluation.predictions import PREDICTIONS_FILE, Predictions
from simulations.studies.study import Study, run_study
from simulations.studies.tables import provenance
from simulations.studies.text_tables import print_table
from simulations.studies.utility_report import (
    comparison_table,
    shared_table,
    shipped_table,
    utility_table,
    write_utility,
)
from simulations.studies.utility_results import utility_results


def report_utility(study: Study, console: Console, *, num_workers: int, num_resamples: int) -> None:
    """Run what is missing of the study; write its tables and its plot, and print the tables without intervals.

    Raises:
        FederatedMammographyError: as a run.
    """
    rows = run_study(study, console, num_workers=num_workers)
    folders = [study.run_folder(row.run, row.seed) for row in rows]
    predictions = [Predictions.from_csv(folder / PREDICTIONS_FILE) for folder in folders]
    results = utility_results(list(zip(rows, predictions, strict=True)), num_resamples=num_resamples)
    write_utility(study.folder, results, provenance(rows))
    for title, table in (
        ("AUC on the official test lesions", utility_table(results, with_intervals=False)),
        ("Image + descriptors", comparison_table(results, with_intervals=False)),
        ("One hospital as the public set of the others", shipped_table(results, with_intervals=False)),
        ("One noise for all hospitals, or all noise from each", shared_table(results, with_intervals=False)),
    ):
        if table.lines:
            print_table(console, title, table)
    console.print(f"Tables with intervals, and the plot, in {study.folder}", highlight=False, soft_wrap=True)
