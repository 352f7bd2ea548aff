"""Explains why the network of a finished run scored test lesions as it did.

Writes a picture of every lesion, the part that image and columns had in its score, and figures that say whether the
maps can be trusted, to ``explanations/`` in the run folder; then the report again, with them.
"""

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from client.data.images import load_lesion, load_lesion_mask
from client.data.network_inputs import lesion_files
from server.report.explanations import (
    EXPLANATIONS_FOLDER,
    ColumnContribution,
    Explanations,
    LesionExplanation,
    draw_explanation,
    write_explanations,
)
from server.report.html_report import write_report
from server.report.plot_style import save_png
from shared_model.errors import ConfigError, DicomError
from shared_model.explanations.saliency import LesionScorer, column_attributions, modality_share
from shared_model.system.seeding import derive_seed, numpy_generator
from shared_model.vocabulary import clinical_columns
from simulations.explanations.finished_run import FinishedRun, RandomisedNetwork
from simulations.explanations.map_checks import METHODS, Figures, LesionMaps, check_maps, summarise_checks


def explain_run(run: FinishedRun, count: int, console: Console) -> Explanations:
    """Explain ``count`` test lesions that have an image; write pictures, index and report.

    Raises:
        ConfigError: none of them can be read.
    """
    folder = run.folder / EXPLANATIONS_FOLDER
    folder.mkdir(exist_ok=True)
    files = lesion_files(run.frame, run.config)
    randomised = RandomisedNetwork.from_run(run, seed=derive_seed(run.config.seed, "explain", "shuffle"))
    lesions: list[LesionExplanation] = []
    figures: dict[str, list[Figures]] = {method: [] for method in METHODS}
    for row in track(run.select_rows(count), description="lesions", console=console, disable=not console.is_terminal):
        try:
            image = load_lesion(files[row], run.config.data.image)
        except DicomError:
            continue
        scorer, pixels = run.scorer(row), torch.from_numpy(image)[None]
        maps = LesionMaps(
            saliency={method: compute(scorer, pixels) for method, compute in METHODS.items()},
            random=numpy_generator(run.config.seed, "explain", str(row)).random(image.shape).astype(np.float32),
            lesion=load_lesion_mask(files[row], run.config.data.image),
        )
        explanation = _explain(run, row, scorer, pixels)
        picture = draw_explanation(explanation, image, list(maps.saliency.items()), maps.lesion)
        save_png(picture, folder / explanation.file)
        lesions.append(explanation)
        for method, of_method in check_maps(scorer, randomised.scorer(run, row), image, maps).items():
            figures[method].append(of_method)
    if not lesions:
        raise ConfigError("Expected test lesions with an image that can be read, found none.")
    checks = tuple(summarise_checks(method, of_lesions) for method, of_lesions in figures.items())
    explanations = Explanations(lesions=tuple(lesions), checks=checks)
    write_explanations(explanations, folder)
    write_report(run.folder)
    return explanations


def _explain(run: FinishedRun, row: int, scorer: LesionScorer, pixels: Tensor) -> LesionExplanation:
    columns = column_attributions(scorer, pixels, clinical_columns(run.config.data.features))
    return LesionExplanation(
        file=f"lesion-{row:04d}.png",
        row=row,
        kind=run.outcome(row),
        score=scorer.probability(pixels),
        image_share=modality_share(scorer, pixels).image_share,
        columns=tuple(ColumnContribution(column=name, logits=logits) for name, logits in columns.items()),
    )


def print_checks(explanations: Explanations, console: Console) -> None:
    """Print one line per method."""
    table = Table(title=f"Can the maps be trusted? Means over {len(explanations.lesions)} test lesions")
    names = ("energy in box (area)", "pointing", "deletion (random)", "insertion (random)", "shuffled weights")
    for name in ("map", *names):
        table.add_column(name)
    for row in explanations.checks:
        table.add_row(
            row.method,
            "-" if row.energy is None or row.area is None else f"{row.energy:.3f} ({row.area:.3f})",
            "-" if row.pointing is None else f"{row.pointing:.2f}",
            f"{row.deletion:.3f} ({row.deletion_random:.3f})",
            f"{row.insertion:.3f} ({row.insertion_random:.3f})",
            "-" if row.similarity is None else f"r {row.similarity:+.2f}",
        )
    console.print(table)
