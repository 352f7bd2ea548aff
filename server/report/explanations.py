"""Explanations of a run's test lesions as they lie in its folder: an index, and a picture of each lesion."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from server.report.run_figures import BLUE, FONT_SIZE, VERMILLION, label_axes
from server.results.strict_json import build, check, check_range, from_text, to_text
from shared_model.system.files import write_atomically

EXPLANATIONS = "explanations"
"""Folder in the run folder."""
INDEX_FILE = "index.json"
_SIZE = (9.6, 2.7)
"""Width and height of a picture in inches."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ColumnPart:
    """What one clinical column adds to the logit of a lesion."""

    column: str
    logits: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explained:
    """One test lesion."""

    file: str
    """Its picture, in the same folder."""
    row: int
    """In ``predictions.csv``, from 0."""
    kind: str
    """``missed cancer``, ``false alarm``, ``found cancer`` or ``benign, as called``."""
    score: float
    image_share: float | None
    """Of what image and columns together moved the logit, in [0, 1]; null where neither moved it."""
    columns: tuple[ColumnPart, ...]

    def __post_init__(self) -> None:
        check(self, "file", "/" not in self.file and self.file.endswith(".png"), "a PNG file of this folder")
        check_range(self, 0, 1, "score", "image_share")
        check_range(self, 0, None, "row")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapCheck:
    """Whether the maps of one method can be trusted, as means over lesions."""

    method: str
    num_lesions: int
    num_marked: int
    """Lesions whose place in the image is known; the next three are null without any."""
    area: float | None
    """Share of the image inside the lesions' boxes: what a map without knowledge would give."""
    energy: float | None
    """Share of the map inside the boxes."""
    pointing: float | None
    """Share of the maps whose largest value lies inside."""
    deletion: float
    """Mean score while the hottest pixels are blurred first; lower is better."""
    deletion_random: float
    """The same in random order."""
    insertion: float
    """Mean score while the hottest pixels get sharp first; higher is better."""
    insertion_random: float
    similarity: float | None
    """Rank correlation with the maps of shuffled weights, in [-1, 1]; near 1 a map would say nothing of the network."""

    def __post_init__(self) -> None:
        check_range(self, 0, 1, "area", "energy", "pointing", "deletion", "deletion_random", "insertion")
        check_range(self, 0, 1, "insertion_random")
        check_range(self, -1, 1, "similarity")
        check_range(self, 0, self.num_lesions, "num_marked")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanations:
    """The index."""

    lesions: tuple[Explained, ...]
    checks: tuple[MapCheck, ...]


def write_index(explanations: Explanations, folder: Path) -> None:
    """Write the index into ``folder``, whole or not at all."""
    write_atomically(folder / INDEX_FILE, to_text(explanations).encode())


def read_index(folder: Path) -> Explanations | None:
    """Read the index in ``folder``, None where there is none.

    Raises:
        ValueError: it is no such file.
    """
    path = folder / INDEX_FILE
    if not path.exists():
        return None
    return build(Explanations, from_text(path.read_text(encoding="utf-8")), INDEX_FILE)


def draw_explanation(
    explained: Explained,
    image: NDArray[np.float32],
    maps: Sequence[tuple[str, NDArray[np.float32]]],
    lesion: NDArray[np.bool_] | None,
) -> Figure:
    """Draw the lesion, every map over it, and what the columns add.

    Args:
        explained: the lesion.
        image: ``(S, S)`` in [0, 1].
        maps: title and ``(S, S)`` in [0, 1].
        lesion: ``(S, S)``, where the lesion's box lies; None where that is not known.
    """
    figure = Figure(figsize=_SIZE, layout="constrained")
    panels = figure.subplots(1, 2 + len(maps), width_ratios=[1] * (1 + len(maps)) + [1.3])
    share = "" if explained.image_share is None else f", image share {explained.image_share:.2f}"
    figure.suptitle(f"{explained.kind}, score {explained.score:.3f}{share}", fontsize=FONT_SIZE + 1)
    for axes, (title, heat) in zip(panels, [("image", None), *maps], strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        if heat is not None:
            axes.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.65 * heat)
        if lesion is not None:
            axes.contour(lesion, levels=[0.5], colors="white", linewidths=0.8)
        axes.set_title(title, fontsize=FONT_SIZE)
        axes.set_axis_off()
    bars = panels[-1]
    parts = sorted(explained.columns, key=lambda part: abs(part.logits))
    bars.barh(
        [part.column.replace("_", " ") for part in parts],
        [part.logits for part in parts],
        color=[VERMILLION if part.logits > 0 else BLUE for part in parts],
    )
    bars.axvline(0, color="black", linewidth=0.8)
    label_axes(bars, x="logits; right: towards malignant" if parts else "no clinical column", y="")
    return figure
