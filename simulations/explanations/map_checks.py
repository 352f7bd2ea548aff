"""Whether saliency maps can be trusted: the figures of one lesion's maps, and their means over lesions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from server.report.explanations import SaliencyCheck
from shared_model.explanations.saliency import LesionScorer, grad_cam, grad_cam_plus_plus
from simulations.explanations.faithfulness import deletion, energy_inside, insertion, points_inside, similarity

FloatArray = NDArray[np.float32]
METHODS: Mapping[str, Callable[[LesionScorer, Tensor], FloatArray]] = {
    "Grad-CAM": grad_cam,
    "Grad-CAM++": grad_cam_plus_plus,
}
Figures = Mapping[str, float | None]
"""Of one lesion and method, by the names that ``SaliencyCheck`` has for their means."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LesionMaps:
    """The maps of one lesion, all ``(S, S)``."""

    saliency: Mapping[str, FloatArray]
    """By method."""
    random: FloatArray
    """Noise, which knows nothing of the lesion."""
    lesion: NDArray[np.bool_] | None
    """Where the lesion lies; None where that is not known."""


def check_maps(
    scorer: LesionScorer, randomised: LesionScorer, image: FloatArray, maps: LesionMaps
) -> dict[str, Figures]:
    """Return the figures of one lesion's maps, by method.

    Args:
        scorer: of the lesion.
        randomised: of the same lesion, by the network with shuffled weights.
        image: ``(S, S)`` in [0, 1].
        maps: of the lesion.
    """
    pixels, lesion = torch.from_numpy(image)[None], maps.lesion

    def score(changed: FloatArray) -> float:
        return scorer.probability(torch.from_numpy(changed)[None])

    in_random_order = {
        "deletion_random": deletion(score, image, maps.random),
        "insertion_random": insertion(score, image, maps.random),
    }
    return {
        method: {
            "area": None if lesion is None else float(lesion.mean()),
            "energy": None if lesion is None else energy_inside(saliency, lesion),
            "pointing": None if lesion is None else _as_share(points_inside(saliency, lesion)),
            "deletion": deletion(score, image, saliency),
            "insertion": insertion(score, image, saliency),
            "similarity": similarity(saliency, METHODS[method](randomised, pixels)),
            **in_random_order,
        }
        for method, saliency in maps.saliency.items()
    }


def _as_share(is_inside: bool | None) -> float | None:
    return None if is_inside is None else float(is_inside)


def summarise_checks(method: str, lesions: Sequence[Figures]) -> SaliencyCheck:
    """Return the means over the lesions for which a figure is known."""

    def mean(name: str) -> float | None:
        known = [value for figures in lesions if (value := figures[name]) is not None]
        return float(np.mean(known)) if known else None

    return SaliencyCheck(
        method=method,
        num_lesions=len(lesions),
        num_marked=sum(figures["area"] is not None for figures in lesions),
        area=mean("area"),
        energy=mean("energy"),
        pointing=mean("pointing"),
        deletion=mean("deletion") or 0.0,
        deletion_random=mean("deletion_random") or 0.0,
        insertion=mean("insertion") or 0.0,
        insertion_random=mean("insertion_random") or 0.0,
        similarity=mean("similarity"),
    )
