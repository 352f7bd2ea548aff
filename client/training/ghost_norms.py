"""Ghost norms: the length of each patient's gradient of a linear layer, without forming the gradient.

One forward and backward pass over all patients is enough.

With inputs ``a_i`` of a linear layer and gradients ``g_i`` of the summed loss by its outputs, lesion ``i`` contributes
``g_i a_i^T`` to the gradient of the weight and ``g_i`` to that of the bias. The squared length of a patient's gradient
is the sum over the pairs ``i, j`` of that patient's lesions of ``(a_i . a_j + 1)(g_i . g_j)`` (Goodfellow 2015,
arXiv 1510.01799, for one example; Li et al. 2022, arXiv 2110.05679, Sec. 4, for the tokens of one, as here for the
lesions of a patient), and the clipped sum is that of ``f_i g_i a_i^T``, with the clip factor ``f_i`` of i's patient.

This holds only if no lesion's logit depends on another lesion, which is for the caller to ensure.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from shared_model.network.heads import RowwiseLinear

_BLOCK = 128
"""Rows converted to float64 at once: few enough to stay in the processor's cache."""
_MAX_PAIRS = 2**20
"""Pairs of lesions listed at once, so that a patient with ever so many takes time, and not all memory: a process that
ends would tell that she is there."""


class OuterProducts(NamedTuple):
    """The gradients ``g_i a_i^T`` and ``g_i`` of one layer, never multiplied out."""

    layer: nn.Linear
    inputs: Tensor
    """``a``, ``(N, in_features)``."""
    gradients: Tensor
    """``g``, ``(N, out_features)``."""

    def squared_lengths(self, sizes: Tensor) -> Tensor:
        """Return ``(P,)``, float64, the squared length of each patient's gradient: never below the true one.

        The terms may cancel, and rounding could then make the sum too small. The error of a patient with ``b`` lesions
        is below ``(b^2 + d + 4) 2^-52`` times the sum of the terms' magnitudes, ``d`` being in_features + out_features
        (Higham 2002, Sec. 3.1), and that sum at most ``b`` times the trace, by Cauchy and Schwarz. It is added.

        Args:
            sizes: ``(P,)``, int64, the patients' numbers of lesions; the lesions stand patient after patient.
        """
        patient_of_lesion = torch.repeat_interleave(sizes)
        rows = torch.arange(len(patient_of_lesion), device=sizes.device)
        squares = self._inner(rows, rows)
        trace = squares.new_zeros(len(sizes)).index_add_(0, patient_of_lesion, squares)
        total = trace
        for first, second in _pairs_within(sizes):
            total = total.index_add(0, patient_of_lesion[first], 2 * self._inner(first, second))
        num_roundings = sizes**2 + self.inputs.shape[1] + self.gradients.shape[1] + 4
        return total + num_roundings * 2.0**-52 * sizes * trace

    def summed(self, factors: Tensor) -> dict[Tensor, Tensor]:
        """Return the sum over lesions, float64, by trainable parameter.

        Args:
            factors: ``(N,)``, float64, the weight of each lesion; 0 silences it even where it is not finite.
        """
        is_kept = factors > 0
        columns = (factors.unsqueeze(1), self.inputs, self.gradients)
        if not is_kept.all():
            columns = (columns[0][is_kept], self.inputs[is_kept], self.gradients[is_kept])
        total: dict[Tensor, Tensor] = {}
        if self.layer.weight.requires_grad:
            weight = torch.zeros_like(self.layer.weight, dtype=torch.float64)
            for some, inputs, gradients in zip(*map(_blocks, columns), strict=True):
                weight.addmm_((some * gradients).T, inputs.double())
            total[self.layer.weight] = weight
        if self.layer.bias is not None and self.layer.bias.requires_grad:
            total[self.layer.bias] = (columns[0].T @ columns[2].double()).squeeze(0)
        return total

    def _inner(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the inner products of the lesions' gradients, of rows ``first`` with rows ``second``, float64."""
        parts = [
            self._inner_inputs(*rows) * _inner(self.gradients, *rows)
            for rows in zip(_blocks(first), _blocks(second), strict=True)
        ]
        return torch.cat(parts)

    def _inner_inputs(self, first: Tensor, second: Tensor) -> Tensor:
        total = torch.zeros_like(first, dtype=torch.float64)
        if self.layer.weight.requires_grad:
            total += _inner(self.inputs, first, second)
        if self.layer.bias is not None and self.layer.bias.requires_grad:
            total += 1
        return total


def outer_products(model: nn.Module, loss: Callable[[], Tensor], *, num_lesions: int) -> list[OuterProducts]:
    """Return the gradients of all lesions, for every trainable layer of ``model``.

    Args:
        model: its trainable parameters are all those of linear layers.
        loss: applies ``model`` once to the ``num_lesions`` lesions and returns the sum of their losses.
        num_lesions: ``N``.

    Raises:
        RuntimeError: a trainable parameter is not that of a linear layer, or the layer does not see every lesion
            exactly once, as one row.
    """
    calls: list[_Call] = []
    layers = _linear_layers(model)
    with _recording(layers, calls):
        value = loss()
    if sorted(id(call.layer) for call in calls) != sorted(map(id, layers)):
        raise RuntimeError("Expected every trainable layer to be called exactly once.")
    if any(len(call.inputs) != num_lesions for call in calls):
        raise RuntimeError(f"Expected every trainable layer to see {num_lesions} lesions.")
    gradients = torch.autograd.grad(value, [call.outputs for call in calls], materialize_grads=True)
    return [OuterProducts(call.layer, call.inputs, values) for call, values in zip(calls, gradients, strict=True)]


class _Call(NamedTuple):
    layer: nn.Linear
    inputs: Tensor
    """``(N, in_features)``."""
    outputs: Tensor
    """``(N, out_features)``, part of the autograd graph."""


@contextmanager
def _recording(layers: list[nn.Linear], calls: list[_Call]) -> Iterator[None]:
    """Append every call of ``layers`` to ``calls``."""

    def record(layer: nn.Module, arguments: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
        """Note one call; a forward hook, so that what it returns takes the place of ``outputs``."""
        if not isinstance(layer, nn.Linear) or [values.ndim for values in arguments] != [2]:
            raise RuntimeError(f"Expected {layer} to be called with one row per lesion.")
        calls.append(_Call(layer, arguments[0].detach().clone(), outputs))
        # A copy, so that what follows may work in place; the inputs are copied for the same reason.
        return outputs.clone()

    handles = [layer.register_forward_hook(record) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _linear_layers(model: nn.Module) -> list[nn.Linear]:
    """Return the layers with trainable parameters; errors as ``outer_products``."""
    layers: list[nn.Linear] = []
    seen: set[int] = set()
    for name, module in model.named_modules():
        parameters = {id(parameter) for parameter in module.parameters(recurse=False) if parameter.requires_grad}
        if not parameters:
            continue
        # Not just any subclass, whose forward may do anything with the weights.
        if type(module) not in (nn.Linear, RowwiseLinear):
            raise RuntimeError(f"Expected {name or 'the model'} to be a linear layer, got {type(module).__name__}.")
        if parameters & seen:
            raise RuntimeError(f"Expected {name} to share no parameter with another layer.")
        seen |= parameters
        layers.append(module)
    return layers


def _pairs_within(sizes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the rows of all pairs of different lesions of one patient, each pair once, the earlier row first."""
    last = torch.repeat_interleave(torch.cumsum(sizes, 0) - 1, sizes)
    num_later = last - torch.arange(len(last), device=sizes.device)
    num_rows = max(1, _MAX_PAIRS // max(1, int(sizes.max())))
    for start in range(0, len(last), num_rows):
        later = num_later[start : start + num_rows]
        row = torch.repeat_interleave(later)
        before = torch.cumsum(later, 0) - later
        first = start + row
        yield first, first + 1 + torch.arange(len(row), device=sizes.device) - before[row]


def _inner(values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    products: Tensor = torch.linalg.vecdot(values[first].double(), values[second].double())
    return products


def _blocks(values: Tensor) -> tuple[Tensor, ...]:
    return values.split(_BLOCK)  # type: ignore[no-untyped-call, no-any-return]
