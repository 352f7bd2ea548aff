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

_BLOCK_VALUES = 2**16
"""Values converted to float64 at once: few enough to stay in the processor's cache."""
_NARROW = 4
"""A layer with at most so many entries for each value that a lesion brings forms every patient's gradient. Measured on
one core: with one output 6 times faster than pairs, with eight as fast."""

_FORMING = 10_000
"""What forming one patient's gradient costs beside its entries, in values of pairs that take as long."""

_CANCELLED = 2.0**-40
"""Share of the squared lengths of a patient's lesions that counts even if their gradients cancel. Her factor is then so
small that her lesions' terms are below 2^20 clipping norms, and what rounding leaves of them and wipes out of the other
patients' sum is below 2^-30 a term. It lengthens a gradient that does not cancel by a part in 10^12."""


class UnsuitableNetworkError(RuntimeError):
    """A gradient method cannot compute a network, whatever the numbers and however busy the machine."""


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
        if num_entries <= _NARROW * num_values:
            return _lengths_from_entries(inputs, gradients, sizes)
        squares = [_inner(a, a) * _inner(g, g) for a, g in _blocks(inputs, gradients, num_values=num_values)]
        trace = squares[0].new_zeros(len(sizes)).index_add_(0, torch.repeat_interleave(sizes), torch.cat(squares))
        is_formed = num_values * (sizes * (sizes - 1) // 2) > num_entries + _FORMING
        total = _pairwise_lengths(inputs, gradients, sizes, trace=trace, has_pairs=~is_formed)
        ends = torch.cumsum(sizes, 0)
        for patient in torch.nonzero(is_formed).flatten().tolist():
            rows = slice(int(ends[patient] - sizes[patient]), int(ends[patient]))
            ones = trace.new_ones(rows.stop - rows.start)
            formed = _multiplied_out(ones, inputs[rows], gradients[rows]).reshape(1, -1)
            one = slice(patient, patient + 1)
            total[one] = _rounded_up(_inner(formed, formed), sizes[one], trace[one], num_entries=num_entries)
        return total

    def summed(self, factors: Tensor) -> dict[Tensor, Tensor]:
        """Return the sum over lesions, float64, by trainable parameter.

        Args:
            factors: ``(N,)``, float64, the weight of each lesion; 0 silences it even where it is not finite.
        """
        is_kept = factors > 0
        inputs, gradients = self.inputs, self.gradients
        if not is_kept.all():
            factors, inputs, gradients = factors[is_kept], inputs[is_kept], gradients[is_kept]
        total: dict[Tensor, Tensor] = {}
        if self.layer.weight.requires_grad:
            total[self.layer.weight] = _multiplied_out(factors, inputs, gradients)
        if self.layer.bias is not None and self.layer.bias.requires_grad:
            total[self.layer.bias] = factors @ gradients.double()
        return total

    def _trained_inputs(self) -> Tensor:
        """Return what the trained parameters are multiplied by: the inputs, and a constant 1 for the bias."""
        inputs = self.inputs if self.layer.weight.requires_grad else self.inputs[:, :0]
        if self.layer.bias is None or not self.layer.bias.requires_grad:
            return inputs
        return torch.cat((inputs, torch.ones_like(self.inputs[:, :1])), dim=1)


def outer_products(model: nn.Module, loss: Callable[[], Tensor], *, num_lesions: int) -> list[OuterProducts]:
    """Return the gradients of all lesions, for every trainable layer of ``model``, in the order of the module.

    Args:
        model: its trainable parameters are all those of linear layers.
        loss: applies ``model`` once to the ``num_lesions`` lesions and returns the sum of their losses.
        num_lesions: ``N``.

    Raises:
        UnsuitableNetworkError: a trainable parameter is not that of a linear layer, or the layer does not see every
            lesion exactly once, as one row, or what it reads or returns is changed in place.
    """
    calls: list[_Call] = []
    layers = _linear_layers(model)
    with _recording(layers, calls):
        value = loss()
    calls.sort(key=lambda call: layers.index(call.layer))
    if [call.layer for call in calls] != layers:
        raise UnsuitableNetworkError("Expected every trainable layer to be called exactly once.")
    if any((call.inputs._version, call.outputs._version) != call.versions for call in calls):
        raise UnsuitableNetworkError("Expected nothing to be changed in place that a trainable layer reads or returns.")
    if any(len(call.inputs) != num_lesions for call in calls):
        raise UnsuitableNetworkError(f"Expected every trainable layer to see {num_lesions} lesions.")
    gradients = torch.autograd.grad(value, [call.outputs for call in calls], materialize_grads=True)
    return [OuterProducts(call.layer, call.inputs, values) for call, values in zip(calls, gradients, strict=True)]


class _Call(NamedTuple):
    layer: nn.Linear
    inputs: Tensor
    """``(N, in_features)``."""
    outputs: Tensor
    """``(N, out_features)``, part of the autograd graph."""
    versions: tuple[int, int]
    """How often torch had written to inputs and outputs at the time of the call."""


@contextmanager
def _recording(layers: list[nn.Linear], calls: list[_Call]) -> Iterator[None]:
    """Append every call of ``layers`` to ``calls``."""

    def record(layer: nn.Module, arguments: tuple[Tensor, ...], outputs: Tensor) -> None:
        if not isinstance(layer, nn.Linear) or [values.ndim for values in arguments] != [2]:
            raise UnsuitableNetworkError(f"Expected {layer} to be called with one row per lesion.")
        inputs = arguments[0].detach()
        calls.append(_Call(layer, inputs, outputs, versions=(inputs._version, outputs._version)))

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
            raise UnsuitableNetworkError(
                f"Expected {name or 'the model'} to be a linear layer, got {type(module).__name__}."
            )
        if parameters & seen:
            raise UnsuitableNetworkError(f"Expected {name} to share no parameter with another layer.")
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
    num_values = inputs.shape[1] + gradients.shape[1]
    for one, other in _blocks(first, second, num_values=num_values):
        by_input, by_gradient = (
            _inner(values.index_select(0, one), values.index_select(0, other)) for values in (inputs, gradients)
        )
        products = by_input * by_gradient
        total.index_add_(0, patient_of_lesion[one], 2 * products)
    num_roundings = sizes**2 + num_values + 4
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
    left = first.double()
    return (left * (left if second is first else second.double())).sum(1)


def _lengths_from_entries(inputs: Tensor, gradients: Tensor, sizes: Tensor) -> Tensor:
    """Return the squared lengths ``(P,)`` of gradients that are formed, added up lesion after lesion."""
    num_entries = inputs.shape[1] * gradients.shape[1]
    formed = inputs.new_zeros(len(sizes), num_entries, dtype=torch.float64)
    trace = formed.new_zeros(len(sizes))
    columns = (inputs, gradients, torch.repeat_interleave(sizes))
    for a, g, patients in _blocks(*columns, num_values=num_entries):
        products = (g.double().unsqueeze(2) * a.double().unsqueeze(1)).flatten(1)
        formed.index_add_(0, patients, products)
        trace.index_add_(0, patients, _inner(products, products))
    return _rounded_up(_inner(formed, formed), sizes, trace, num_entries=num_entries)


def _multiplied_out(factors: Tensor, inputs: Tensor, gradients: Tensor) -> Tensor:
    """Return the sum over lesions of ``f_i g_i a_i^T``, ``(out_features, in_features)``, float64.

    The product has the narrower side as its rows, which measured up to twice as fast.
    """
    is_transposed = gradients.shape[1] > inputs.shape[1]
    narrow, wide = (inputs, gradients) if is_transposed else (gradients, inputs)
    total = factors.new_zeros(narrow.shape[1], wide.shape[1])
    for f, n, w in _blocks(factors.unsqueeze(1), narrow, wide, num_values=sum(total.shape)):
        total.addmm_((f * n.double()).T, w.double())
    return total.T if is_transposed else total


def _rounded_up(squares: Tensor, sizes: Tensor, trace: Tensor, *, num_entries: int) -> Tensor:
    """Return squared lengths ``(P,)`` of gradients that were formed, so that none is below the true one.

    Rounding moves an entry by at most ``(b + 1) 2^-53`` times the sum of its terms' magnitudes (Higham 2002, Sec. 3.1),
    the whole gradient by that times the sum of its lesions' lengths, which is at most the root of ``b`` times the
    trace; and the sum of squares by its number of terms times 2^-53. Twice as much is added, for what comes on top.

    That makes lesions that cancel no longer than their rounding, and their terms in the clipped sum up to 2^52 clipping
    norms; so a share of the trace is added too.
    """
    lengths = torch.sqrt(squares * (1 + (num_entries + 4) * 2.0**-52))
    return (lengths + (sizes + 2) * 2.0**-52 * torch.sqrt(sizes * trace)).square() + _CANCELLED * sizes * trace


def _blocks(*columns: Tensor, num_values: int) -> Iterator[tuple[Tensor, ...]]:
    """Yield runs of rows of ``columns``, together; a row takes ``num_values`` float64 numbers."""
    num_rows = max(1, _BLOCK_VALUES // max(1, num_values))
    return zip(*(values.split(num_rows) for values in columns), strict=True)  # type: ignore[no-untyped-call]
