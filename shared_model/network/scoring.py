"""Scores: the probability of malignancy that a network gives to lesions."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared_model.data.lesions import Lesions
from shared_model.errors import RoundError

MAX_BATCH_VALUES = 2**22
"""Image values in one forward pass: 16 MiB of float32, whether features, crops or whole films."""


def predict(network: nn.Module, lesions: Lesions) -> NDArray[np.float64]:
    """Return the probability of malignancy of every lesion.

    ``network(images, has_image, clinical)`` returns one logit per row. It runs in evaluation mode, without gradients;
    afterwards every submodule is in the mode that it had before.

    Args:
        network: the fusion network.
        lesions: ``N`` lesions; ``N`` may be 0.

    Returns:
        ``(N,)``, float64, in [0, 1].

    Raises:
        RoundError: a score is NaN or infinite.
        ValueError: the network does not return logits of shape ``(N,)``.
    """
    rows_per_batch = max(1, MAX_BATCH_VALUES // max(1, lesions.images[:1].numel()))
    with _evaluation_mode(network), torch.inference_mode():
        starts = range(0, len(lesions), rows_per_batch)
        batches = [_logits(network, lesions, slice(start, start + rows_per_batch)) for start in starts]
        logits = torch.cat([torch.empty(0, dtype=torch.float64), *batches])
    num_broken = int((~torch.isfinite(logits)).sum())
    if num_broken:
        raise RoundError(f"Expected finite scores, got {num_broken} of {len(logits)} NaN or infinite.")
    probabilities: NDArray[np.float64] = torch.sigmoid(logits).numpy()
    return probabilities


@contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _logits(network: nn.Module, lesions: Lesions, rows: slice) -> Tensor:
    logits: Tensor = network(lesions.images[rows], lesions.has_image[rows], lesions.clinical[rows])
    if logits.shape != lesions.labels[rows].shape:
        raise ValueError(f"Expected logits of shape {(len(lesions.labels[rows]),)}, got {tuple(logits.shape)}.")
    return logits.double()
