"""Explanations of a run's test lesions as they lie in its folder: a picture of every lesion, and an index of all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Interval
from matplotlib.figure import Figure
from numpy.typing import NDArray

from server.report.plot_style import BLUE, FONT_SIZE, VERMILLION, label_axes
from server.results.estimate import Size
from shared_model.config.bounds import Fraction
from shared_model.system.checked import build, checked, require, rule
from shared_model.system.documents import from_json, to_json
from shared_model.system.files import write_atomically

EXPLANATIONS_FOLDER = "explanations"
"""Folder in the run folder."""
INDEX_FILE = "index.json"
_SIZE = (9.6, 2.7)
"""Width and height of a picture in inches."""


def _is_png_here(name: str) -> bool:
    return "/" not in name and name.endswith(".png")


@checked(error=ValueError)
class ColumnContribution:
    """What one clinical column adds to the logit of a lesion."""

    column: str
    logits: float
    """Positive where the column speaks for malignancy."""


@checked(error=ValueError)
class LesionExplanation:
    """Why one test lesion got its score."""

    file: Annotated[str, rule(_is_png_here, "to be a PNG file of this folder")]
    """Its picture, in the same folder."""
    row: Size
    """In ``predictions.csv``, from 0."""
    kind: str
    """``missed cancer``, ``false alarm``, ``found cancer`` or ``benign, as called``."""
    score: Fraction
    image_share: Fraction | None
    """The image's part, in [0, 1], of what image and columns together moved the logit; null where neither moved it."""
    columns: tuple[ColumnContribution, ...]


@checked(error=ValueError)
class SaliencyCheck:
    """Whether the saliency maps of one method can be trusted, as means over lesions."""

    method: str
    num_lesions: int
    num_marked: Size
    """Of these, lesions whose place in the image is known; the next three are null without any."""
    area: Fraction | None
    """Share of the image inside the lesions' boxes: the energy of a map that is the same everywhere."""
    energy: Fraction | None
    """Share of the map inside the boxes."""
    pointing: Fraction | None
    """Share of the maps whose largest value lies inside."""
    deletion: Fraction
    """Mean score while the hottest pixels are blurred first; lower is better."""
    deletion_random: Fraction
    """The same in random order."""
    insertion: Fraction
    """Mean score while the hottest pixels get sharp first; higher is better."""
    insertion_random: Fraction
    similarity: Annotated[float, Interval(ge=-1, le=1)] | None
    """Rank correlation with the maps of the network with shuffled weights, in [-1, 1].

    Near 1 the maps do not depend on what the network has learnt, so they explain nothing.
    """

    def __post_init__(self) -> None:
        require(self.num_marked <= self.num_lesions, f"<= num_lesions={self.num_lesions}", num_marked=self.num_marked)


@checked(error=ValueError)
class Explanations:
    """The index of the folder."""

    lesions: tuple[LesionExplanation, ...]
    checks: tuple[SaliencyCheck, ...]
    """One for every method."""


def write_explanations(explanations: Explanations, folder: Path) -> None:
    """Write the index into ``folder``, whole or not at all."""
    write_atomically(folder / INDEX_FILE, to_json(explanations).encode())


def read_explanations(folder: Path) -> Explanations | None:
    """Read the index in ``folder``; None where there is none.

    Raises:
        ValueError: the file has other content.
    """
    path = folder / INDEX_FILE
    if not path.exists():
        return None
    return build(Explanations, from_json(path.read_text(encoding="utf-8")), path=INDEX_FILE)


def draw_explanation(
    explanation: LesionExplanation,
    image: NDArray[np.float32],
    maps: Sequence[tuple[str, NDArray[np.float32]]],
    lesion_box: NDArray[np.bool_] | None,
) -> Figure:
    """Draw the lesion, every map over it, and what the columns add.

    Args:
        explanation: what the index holds of the lesion.
        image: ``(S, S)`` in [0, 1].
        maps: title and saliency map ``(S, S)`` in [0, 1] of every method.
        lesion_box: ``(S, S)``, True inside the lesion's box; None where its place is not known.
    """
    figure = Figure(figsize=_SIZE, layout="constrained")
    panels = figure.subplots(1, 2 + len(maps), width_ratios=[1] * (1 + len(maps)) + [1.3])
    share = "" if explanation.image_share is None else f", image share {explanation.image_share:.2f}"
    figure.suptitle(f"{explanation.kind}, score {explanation.score:.3f}{share}", fontsize=FONT_SIZE + 1)
    for axes, (title, saliency_map) in zip(panels, [("image", None), *maps], strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        if saliency_map is not None:
            axes.imshow(saliency_map, cmap="inferno", vmin=0, vmax=1, alpha=0.65 * saliency_map)
        if lesion_box is not None:
            axes.contour(lesion_box, levels=[0.5], colors="white", linewidths=0.8)
        axes.set_title(title, fontsize=FONT_SIZE)
        axes.set_axis_off()
    bars = panels[-1]
    contributions = sorted(explanation.columns, key=lambda contribution: abs(contribution.logits))
    bars.barh(
        [contribution.column.replace("_", " ") for contribution in contributions],
        [contribution.logits for contribution in contributions],
        color=[VERMILLION if contribution.logits > 0 else BLUE for contribution in contributions],
    )
    bars.axvline(0, color="black", linewidth=0.8)
    label_axes(bars, x="logits; right: towards malignant" if contributions else "no clinical column", y="")
    return figure
