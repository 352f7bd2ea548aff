"""Scores: the probability of malignancy that a network gives to lesions.

Batches have a fixed number of rows, filled up with zeros, so that a lesion's score does not depend on how many others
are scored with it (``row_independence``).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared_model.data.lesions import Lesions
from shared_model.errors import RoundError
from shared_model.network.fusion import FusionNet
from shared_model.network.row_independence import layer_outputs, positions_agree, with_invented_numbers

ROWS_PER_PASS = 256
MAX_BATCH_VALUES = 2**20
"""Image values in one forward pass: 4 MiB of float32, whether features, crops or whole films."""


def predict(network: nn.Module, lesions: Lesions, *, not_finite: float | None = None) -> NDArray[np.float64]:
    """Return the probability of malignancy of every lesion.

    ``network(images, has_image, clinical)`` returns one logit per row. It runs in evaluation mode, without gradients;
    afterwards every submodule is in the mode that it had before.

    Args:
        network: the fusion network.
        lesions: ``N`` lesions; ``N`` may be 0.
        not_finite: score, in [0, 1], of a lesion whose logit is NaN or infinite; None makes that an error.

    Returns:
        ``(N,)``, float64, in [0, 1].

    Raises:
        RoundError: a score is NaN or infinite, and ``not_finite`` is None.
        ValueError: the network does not return logits of shape ``(N,)``.
    """
    with _evaluation_mode(network), torch.inference_mode():
        num_rows = _rows_per_pass(network, lesions)
        starts = range(0, len(lesions), num_rows)
        batches = [_logits(network, lesions, slice(start, start + num_rows), num_rows) for start in starts]
        logits = torch.cat([torch.empty(0, dtype=torch.float64), *batches])
    is_broken = ~torch.isfinite(logits)
    num_broken = int(is_broken.sum())
    if num_broken and not_finite is None:
        raise RoundError(f"Expected finite scores, got {num_broken} of {len(logits)} NaN or infinite.")
    probabilities: NDArray[np.float64] = torch.sigmoid(logits).masked_fill(is_broken, not_finite or 0.0).numpy()
    return probabilities


def head_inputs(network: FusionNet, lesions: Lesions) -> NDArray[np.float64]:
    """Return what a linear head reads of every lesion, ``(N, W)``, float64; its product with the weights is the logit.

    Entries may be NaN or infinite where the network's constants are large.

    Raises:
        ValueError: the head is not one linear layer.
    """
    layer = network.linear_head
    batches = [torch.empty(0, layer.in_features, dtype=torch.float64)]
    with _evaluation_mode(network), torch.inference_mode():
        # The trial that finds the number of rows passes through the layer too.
        num_rows = _rows_per_pass(network, lesions)
        handle = layer.register_forward_pre_hook(lambda _layer, inputs: batches.append(inputs[0].double()))
        try:
            for start in range(0, len(lesions), num_rows):
                _logits(network, lesions, slice(start, start + num_rows), num_rows)
        finally:
            handle.remove()
    inputs: NDArray[np.float64] = torch.cat(batches)[: len(lesions)].numpy()
    return inputs


def _rows_per_pass(network: nn.Module, lesions: Lesions) -> int:
    """Return the number of rows of every pass: the same for any number of lesions."""
    if not len(lesions):
        return 1
    num_rows = max(1, min(ROWS_PER_PASS, MAX_BATCH_VALUES // max(1, lesions.images[:1].numel())))
    inputs = [_filled_up(values[:1], num_rows) for values in (lesions.images, lesions.has_image, lesions.clinical)]
    invented = with_invented_numbers(network)
    return num_rows if positions_agree(lambda batch: layer_outputs(invented, batch), inputs) else 1


@contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _logits(network: nn.Module, lesions: Lesions, rows: slice, num_rows: int) -> Tensor:
    inputs = (lesions.images[rows], lesions.has_image[rows], lesions.clinical[rows])
    logits: Tensor = network(*(_filled_up(values, num_rows) for values in inputs))
    if logits.shape != (num_rows,):
        raise ValueError(f"Expected logits of shape {(num_rows,)}, got {tuple(logits.shape)}.")
    return logits[: len(inputs[0])].double()


def _filled_up(values: Tensor, num_rows: int) -> Tensor:
    return torch.cat((values, values.new_zeros(num_rows - len(values), *values.shape[1:])))
