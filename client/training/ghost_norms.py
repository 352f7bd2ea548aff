"""Lengths of the patients' gradients of a linear layer, without keeping a gradient for every patient.

One forward and backward pass over all patients is enough.

With inputs ``a_i`` of a linear layer and gradients ``g_i`` of the summed loss by its outputs, lesion ``i`` contributes
``g_i a_i^T`` to the gradient of the weight and ``g_i`` to that of the bias, which is a weight of a constant input 1.
The squared length of a patient's gradient is the sum over the pairs ``i, j`` of that patient's lesions of
``(a_i . a_j)(g_i . g_j)``, her ghost norm (Goodfellow 2015, arXiv 1510.01799, for one example; Li et al. 2022, arXiv
2110.05679, Sec. 4, for the tokens of one, as here for the lesions of a patient). The clipped sum is that of
``f_i g_i a_i^T``, with the clip factor ``f_i`` of i's patient.

A patient with many lesions has more pairs than the gradient has entries, and a layer with one output has hardly more
entries than the two vectors: there the gradient is formed, and its entries are squared. Which way is taken follows from
the layer's shape and the patient's own number of lesions, so that no other patient changes a bit of her length.

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
_NARROW = 4
"""A layer with at most so many entries for each value that a lesion brings forms every patient's gradient. Measured on
one core: with one output 6 times faster than pairs, with eight as fast."""

_FORMING = 10_000
"""What forming one patient's gradient costs beside its entries, in values of pairs that take as long."""


class OuterProducts(NamedTuple):
    """The gradients ``g_i a_i^T`` and ``g_i`` of one layer, not multiplied out."""

    layer: nn.Linear
    inputs: Tensor
    """``a``, ``(N, in_features)``."""
    gradients: Tensor
    """``g``, ``(N, out_features)``."""

    def squared_lengths(self, sizes: Tensor) -> Tensor:
        """Return ``(P,)``, float64, the squared length of each patient's gradient: never below the true one.

        Args:
            sizes: ``(P,)``, int64, the patients' numbers of lesions; the lesions stand patient after patient.
        """
        inputs, gradients = self._trained_inputs(), self.gradients
        num_values = inputs.shape[1] + gradients.shape[1]
        num_entries = inputs.shape[1] * gradients.shape[1]
        patient_of_lesion = torch.repeat_interleave(sizes)
        squares = torch.cat(
            [_inner(a, a) * _inner(g, g) for a, g in zip(*map(_blocks, (inputs, gradients)), strict=True)]
        )
        trace = squares.new_zeros(len(sizes)).index_add_(0, patient_of_lesion, squares)
        if num_entries <= _NARROW * num_values:
            formed = _summed_entries(inputs, gradients, patient_of_lesion, num_patients=len(sizes))
            return _rounded_up(_inner(formed, formed), sizes, trace, num_entries=num_entries)
        is_formed = num_values * (sizes * (sizes - 1) // 2) > num_entries + _FORMING
        total = _pairwise_lengths(inputs, gradients, sizes, trace=trace, has_pairs=~is_formed)
        ends = torch.cumsum(sizes, 0)
        for patient in torch.nonzero(is_formed).flatten().tolist():
            rows = slice(int(ends[patient] - sizes[patient]), int(ends[patient]))
            formed = _multiplied_out(inputs[rows], gradients[rows]).view(1, -1)
            one = slice(patient, patient + 1)
            total[one] = _rounded_up(_inner(formed, formed), sizes[one], trace[one], num_entries=num_entries)
        return total

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

    def _trained_inputs(self) -> Tensor:
        """Return what the trained parameters are multiplied by: the inputs, and a constant 1 for the bias."""
        inputs = self.inputs if self.layer.weight.requires_grad else self.inputs[:, :0]
        if self.layer.bias is None or not self.layer.bias.requires_grad:
            return inputs
        return torch.cat((inputs, torch.ones_like(self.inputs[:, :1])), dim=1)


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


def _pairwise_lengths(inputs: Tensor, gradients: Tensor, sizes: Tensor, *, trace: Tensor, has_pairs: Tensor) -> Tensor:
    """Return the squared lengths ``(P,)`` by pairs, never below the true ones, of the patients for whom ``has_pairs``.

    The terms may cancel, and rounding could then make the sum too small. The error of a patient with ``b`` lesions is
    below ``(b^2 + d + 4) 2^-52`` times the sum of the terms' magnitudes, ``d`` being the number of values of a lesion
    (Higham 2002, Sec. 3.1), and that sum at most ``b`` times the trace, by Cauchy and Schwarz. It is added.
    """
    patient_of_lesion = torch.repeat_interleave(sizes)
    first, second = _pairs_within(sizes, has_pairs)
    total = trace.clone()
    for one, other in zip(_blocks(first), _blocks(second), strict=True):
        products = _inner(inputs[one], inputs[other]) * _inner(gradients[one], gradients[other])
        total.index_add_(0, patient_of_lesion[one], 2 * products)
    num_roundings = sizes**2 + inputs.shape[1] + gradients.shape[1] + 4
    return total + num_roundings * 2.0**-52 * sizes * trace


def _pairs_within(sizes: Tensor, has_pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of all pairs of different lesions of one patient, each pair once, the earlier row first."""
    last = torch.repeat_interleave(torch.cumsum(sizes, 0) - 1, sizes)
    num_later = (last - torch.arange(len(last), device=sizes.device)) * torch.repeat_interleave(has_pairs, sizes)
    first = torch.repeat_interleave(num_later)
    before = torch.cumsum(num_later, 0) - num_later
    return first, first + 1 + torch.arange(len(first), device=sizes.device) - before[first]


def _inner(first: Tensor, second: Tensor) -> Tensor:
    """Return the inner product of every row of ``first`` with that of ``second``, float64.

    Torch's own sum treats rows alike, where a library of linear algebra may choose its order by a row's address.
    """
    return (first.double() * second.double()).sum(1)


def _summed_entries(inputs: Tensor, gradients: Tensor, patient_of_lesion: Tensor, *, num_patients: int) -> Tensor:
    """Return every patient's gradient ``(P, out_features * in_features)``, float64, added up lesion after lesion."""
    total = inputs.new_zeros(num_patients, gradients.shape[1] * inputs.shape[1], dtype=torch.float64)
    for a, g, patients in zip(*map(_blocks, (inputs, gradients, patient_of_lesion)), strict=True):
        products = g.double().unsqueeze(2) * a.double().unsqueeze(1)
        total.index_add_(0, patients, products.flatten(1))
    return total


def _multiplied_out(inputs: Tensor, gradients: Tensor) -> Tensor:
    """Return the gradient of one patient's lesions ``(out_features, in_features)``, float64."""
    total = inputs.new_zeros(gradients.shape[1], inputs.shape[1], dtype=torch.float64)
    for a, g in zip(_blocks(inputs), _blocks(gradients), strict=True):
        total.addmm_(g.double().T, a.double())
    return total


def _rounded_up(squares: Tensor, sizes: Tensor, trace: Tensor, *, num_entries: int) -> Tensor:
    """Return squared lengths ``(P,)`` of gradients that were formed, so that none is below the true one.

    Rounding moves an entry by at most ``(b + 1) 2^-53`` times the sum of its terms' magnitudes (Higham 2002, Sec. 3.1),
    the whole gradient by that times the sum of its lesions' lengths, which is at most the root of ``b`` times the
    trace; and the sum of squares by its number of terms times 2^-53. Twice as much is added, for what comes on top.
    """
    lengths = torch.sqrt(squares * (1 + (num_entries + 4) * 2.0**-52))
    return (lengths + (sizes + 2) * 2.0**-52 * torch.sqrt(sizes * trace)).square()


def _blocks(values: Tensor) -> tuple[Tensor, ...]:
    return values.split(_BLOCK)  # type: ignore[no-untyped-call, no-any-return]
