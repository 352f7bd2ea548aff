"""Tests of a saliency map: whether it lies on the lesion, the score depends on it, and it depends on the weights."""

import copy
from collections.abc import Callable
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

Module = TypeVar("Module", bound=nn.Module)

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Score = Callable[[FloatArray], float]
"""An image ``(S, S)`` to the probability of malignancy."""

NUM_STEPS = 16
_BLUR = 0.1
"""Standard deviation of the blurred baseline over the image's side: it removes fine structure and keeps brightness."""


def energy_inside(heat: FloatArray, lesion: BoolArray) -> float | None:
    """Return the share of the map inside ``lesion`` (Wang et al. 2020, Score-CAM); None for an empty map.

    A map that is the same everywhere gives ``lesion.mean()``.
    """
    total = float(heat.sum())
    return float(heat[lesion].sum()) / total if total > 0 else None


def points_inside(heat: FloatArray, lesion: BoolArray) -> bool | None:
    """Return whether the largest value lies inside ``lesion`` (Zhang et al. 2018, pointing game); None if empty."""
    return bool(lesion.flat[int(heat.argmax())]) if heat.any() else None


def deletion(score: Score, image: FloatArray, heat: FloatArray) -> float:
    """Return the mean score while the image is blurred, the hottest pixels first (Petsiuk et al. 2018, RISE).

    Lower is better: the score falls early where what the map calls important is important.
    """
    return _mean_score(score, image, _blurred(image), heat)


def insertion(score: Score, image: FloatArray, heat: FloatArray) -> float:
    """Return the mean score while a blurred image gets sharp, the hottest pixels first; higher is better."""
    return _mean_score(score, _blurred(image), image, heat)


def _mean_score(score: Score, start: FloatArray, end: FloatArray, heat: FloatArray) -> float:
    """Return the mean score while ``start`` turns into ``end``, the hottest pixels first."""
    order = np.argsort(-heat, axis=None, kind="stable")
    scores = [score(start)]
    current = start.copy()
    for part in np.array_split(order, NUM_STEPS):
        current.flat[part] = end.flat[part]
        scores.append(score(current))
    return float(np.trapezoid(scores, dx=1 / NUM_STEPS))


def _blurred(image: FloatArray) -> FloatArray:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), _BLUR * image.shape[0]), dtype=np.float32)


def randomised(module: Module, *, seed: int) -> Module:
    """Return a copy whose weight tensors, parameters and buffers, are shuffled each in itself.

    A map that looks the same for it does not explain the network (Adebayo et al. 2018, Sanity Checks for Saliency
    Maps).
    """
    shuffled, generator = copy.deepcopy(module), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*shuffled.parameters(), *shuffled.buffers()):
            if tensor.ndim > 1:
                order = torch.randperm(tensor.numel(), generator=generator)
                tensor.copy_(tensor.flatten()[order].reshape(tensor.shape))
    return shuffled


def similarity(first: FloatArray, second: FloatArray) -> float | None:
    """Return the rank correlation of two maps, in [-1, 1]; None where one is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(spearmanr(first, second, axis=None).statistic)
