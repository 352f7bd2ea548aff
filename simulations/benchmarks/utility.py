"""What privacy costs the diagnosis: the study of ``simulations.studies.privacy_utility``, run and reported."""

from rich.console import Console

from server.evaluation.predictions import PREDICTIONS_FILE, Predictions
from simulations.studies.privacy_utility import comparison_cells, entries, table_cells, write_utility
from simulations.studies.study import Study, run_study
from simulations.studies.tables import print_table, provenance


def report_utility(study: Study, console: Console, *, num_workers: int, num_resamples: int) -> None:
    """Run what is missing of the study; write its tables and its figure, and print the tables without intervals.

    Raises:
        FederatedMammographyError: as a run.
    """
    rows = run_study(study, console, num_workers=num_workers)
    folders = [study.run_folder(row.cell, row.seed) for row in rows]
    tested = [Predictions.from_csv(folder / PREDICTIONS_FILE) for folder in folders]
    found = entries(list(zip(rows, tested, strict=True)), num_resamples=num_resamples)
    write_utility(study.folder, found, provenance(rows))
    print_table(console, "AUC on the official test lesions", *table_cells(found, with_intervals=False))
    print_table(console, "Image + descriptors", *comparison_cells(found, with_intervals=False))
    console.print(f"Tables with intervals, and the figure, in {study.folder}", highlight=False, soft_wrap=True)
