"""Whether a network gives a row the same numbers wherever it stands in a batch: a trial on the machine at hand.

A library of linear algebra picks its order of summation by the shapes of matrices, and at their edges by the position
of a row. The order decides last bits, and a coordinator can send parameters that turn last bits into whole gradients.
With a fixed number of rows, and provided that no position differs from another, no patient's result tells whether
somebody else is there. The order does not depend on the numbers, so a trial with invented ones shows it: invented
inputs, and invented parameters too, since a coordinator could send some under which the trial sees nothing.
"""

import copy
import math
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor, nn

NUM_TRIALS = 3
"""With another order of summation, the rows of one trial agree by chance more often than all those of three."""


def positions_agree(compute: Callable[[Sequence[Tensor]], Sequence[Tensor]], rows: Sequence[Tensor]) -> bool:
    """Return whether ``compute`` gives equal rows equal results, bit for bit, at every position of a batch.

    Args:
        compute: maps tensors ``(N, ...)`` to tensors ``(N, ...)``, row by row.
        rows: tensors of the shapes and types that ``compute`` takes; of each only shape and type count.
    """
    generator = torch.Generator().manual_seed(0)
    for _ in range(NUM_TRIALS):
        results = compute([_equal_rows(values, generator) for values in rows])
        if not all(torch.equal(values, values[:1].expand_as(values).contiguous()) for values in results):
            return False
    return True


_MAX_VERDICTS = 64
_VERDICTS: dict[Hashable, bool] = {}
"""By trial what it found in this process, where the library of linear algebra stays the same."""


def found_once(trial: Hashable, find: Callable[[], bool]) -> bool:
    """Return what ``find`` returns, or what it returned before for the same ``trial`` in this process.

    Args:
        trial: everything that the result follows from, beside the machine: what is computed, for which shapes and
            types. What somebody sends for one trial may not stand for another: no number of a network belongs here.
        find: tries it.
    """
    key = (trial, torch.get_num_threads())
    verdict = _VERDICTS.get(key)
    if verdict is None:
        verdict = find()
        if len(_VERDICTS) >= _MAX_VERDICTS:
            _VERDICTS.clear()
        _VERDICTS[key] = verdict
    return verdict


def with_invented_numbers(network: nn.Module) -> nn.Module:
    """Return a copy of ``network`` whose parameters and buffers are drawn anew, of a size that saturates nothing."""
    copied = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for values in (*copied.parameters(), *copied.buffers()):
            if values.is_floating_point():
                scale = max(1, math.prod(values.shape[1:])) ** -0.5
                values.copy_((scale * torch.randn(values.shape, generator=generator)).to(values))
    return copied


def layer_outputs(network: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return what every module of ``network`` makes of ``inputs``, the network itself last."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            outputs.append(output)

    handles = [module.register_forward_hook(keep) for module in network.modules()]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def _equal_rows(values: Tensor, generator: torch.Generator) -> Tensor:
    """Return an invented row, as often as ``values`` has rows."""
    if values.dtype == torch.bool:
        return torch.ones_like(values)
    row = torch.randn(values.shape[1:], generator=generator).to(values)
    return row.expand_as(values).clone()
