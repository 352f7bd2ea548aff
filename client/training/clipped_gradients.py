"""The clipping rule of DP-SGD: each patient's gradient is shortened to ``max_grad_norm``, then all are added up.

A patient's gradient is that of the mean loss over all of the patient's lesions (Abadi et al. 2016, Alg. 1, with a
patient in place of an example). With ``max_grad_norm=0.5``, a gradient of length 0.2 enters the sum as it is, and one
of length 3 is multiplied by 0.5 / 3.

Three methods compute the same sum: ghost norms, per record, per patient. ``gradient_methods`` chooses among them.

Formal guarantee of every method: adding or removing one patient moves the sum by at most ``max_grad_norm`` times
``1 + 1e-6``, if each patient's float32 forward and backward pass gives the same numbers whoever else is in the batch.
Lengths, factors and sums are float64, and lengths are rounded up. Torch keeps that condition where all batches have the
same number of rows (``patients.LesionsByPatient.batches``) and a layer with one output adds up row by row
(``shared_model.network.heads``); ``row_independence`` tries it on the machine at hand. The method per patient keeps it
by itself, as every patient has a pass of its own.
"""

import functools
import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from client.training.ghost_norms import OuterProducts, outer_products
from client.training.patient_loss import record_loss, summed_loss
from client.training.patients import PatientBatch
from shared_model.config.site_sections import TrainingConfig

Gradients = tuple[Tensor, ...]
"""One tensor of its shape per trainable parameter."""


class ClippedSum(NamedTuple):
    """The sum, float64, of clipped gradients, and how many patients it leaves out because theirs is not finite."""

    gradients: Gradients
    num_rejected: int


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of ``model`` that require a gradient, in the order of the module.

    Raises:
        ValueError: there are none.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("Expected a model with at least one trainable parameter.")
    return parameters


def sum_by_ghost_norms(
    model: nn.Module, batch: PatientBatch, config: TrainingConfig, max_grad_norm: float
) -> ClippedSum:
    """Return the clipped sum without keeping every patient's gradient (Goodfellow 2015; Li et al. 2022, Sec. 4).

    The price is that lesions must not depend on each other: see ``client.training.ghost_norms``.

    Raises:
        UnsuitableNetworkError: as ``ghost_norms.outer_products``.
    """
    products = _outer_products(model, batch, config)
    sizes = batch.sizes[: batch.num_patients]
    squares = [product.squared_lengths(sizes) for product in products]
    factors, num_rejected = _clip_factors(_added_up(squares), max_grad_norm)
    by_lesion = torch.repeat_interleave(factors, sizes)
    return ClippedSum(
        tuple(total for product in products for total in product.summed(by_lesion).values()), num_rejected
    )


def ghost_terms(model: nn.Module, batch: PatientBatch, config: TrainingConfig) -> list[Tensor]:
    """Return what ghost norms are made of: of every linear layer its inputs and the gradients of its outputs, by row.

    Raises:
        UnsuitableNetworkError: as ``sum_by_ghost_norms``.
    """
    return [
        values for product in _outer_products(model, batch, config) for values in (product.inputs, product.gradients)
    ]


def _outer_products(model: nn.Module, batch: PatientBatch, config: TrainingConfig) -> list[OuterProducts]:
    """Return the outer products of the lesions, without those of empty rows, which would be zero."""
    products = outer_products(model, lambda: summed_loss(model, batch, config), num_lesions=len(batch.labels))
    rows = slice(len(batch.labels) - batch.num_empty_rows)
    return [OuterProducts(layer, inputs[rows], gradients[rows]) for layer, inputs, gradients in products]


def record_gradients(model: nn.Module, batch: PatientBatch, config: TrainingConfig) -> list[Tensor]:
    """Return the gradient of every lesion's weighted loss: a tensor ``(N, ...)`` per trainable parameter.

    Raises:
        RuntimeError: as ``sum_by_record``.
    """
    trainable = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}

    def loss(parameters: dict[str, Tensor], weight: Tensor, label: Tensor, *inputs: Tensor) -> Tensor:
        """Return the weighted loss of one lesion, a scalar."""
        logits = functional_call(model, parameters, tuple(values.unsqueeze(0) for values in inputs))
        return weight * record_loss(logits, label, config).sum()

    in_dims = (None, *(0 for _ in range(2 + len(batch.inputs))))
    by_record = vmap(grad(loss), in_dims=in_dims)(trainable, batch.weights, batch.labels, *batch.inputs)
    return [by_record[name] for name in trainable]


def sum_by_record(model: nn.Module, batch: PatientBatch, config: TrainingConfig, max_grad_norm: float) -> ClippedSum:
    """Return the clipped sum from the gradients of all lesions, computed in one call.

    Raises:
        RuntimeError: torch cannot vectorise ``model``, for example because it indexes by a mask or draws at random.
    """
    by_patient = [
        values.new_zeros(len(batch.sizes), *values.shape[1:]).index_add_(0, batch.patient_of_lesion, values)
        for values in record_gradients(model, batch, config)
    ]
    squares = [
        torch.linalg.vector_norm(values.unsqueeze(1).flatten(1), dim=1, dtype=torch.float64).square()
        for values in by_patient
    ]
    rows = slice(batch.num_patients)
    factors, num_rejected = _clip_factors(_added_up(squares)[rows], max_grad_norm)
    return ClippedSum(tuple(_weighted_sum(factors, values[rows]) for values in by_patient), num_rejected)


def sum_by_patient(model: nn.Module, batch: PatientBatch, config: TrainingConfig, max_grad_norm: float) -> ClippedSum:
    """Return the clipped sum by one ordinary backward pass per patient, for any module."""
    parameters = trainable_parameters(model)
    total = zero_gradients(parameters)
    num_rejected = 0
    patients = itertools.islice(batch.single_patients(), batch.num_patients)
    for patient in patients:
        gradients = torch.autograd.grad(summed_loss(model, patient, config), parameters, materialize_grads=True)
        lengths = torch.stack([torch.linalg.vector_norm(values, dtype=torch.float64) for values in gradients])
        factors, is_rejected = _clip_factors(lengths.square().sum().view(1), max_grad_norm)
        num_rejected += is_rejected
        if not is_rejected:
            for entry, values in zip(total, gradients, strict=True):
                entry.add_(values, alpha=float(factors))
    return ClippedSum(total, num_rejected)


def zero_gradients(parameters: list[nn.Parameter]) -> Gradients:
    """Return zeros, float64, in the shapes of ``parameters``."""
    return tuple(torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters)


def _added_up(squares: list[Tensor]) -> Tensor:
    """Return the squared lengths ``(P,)`` over all parameters, from those of each, in one order for every patient.

    Torch's sum over the rows of a matrix takes another order in the last columns, so that the last bit of a patient's
    length would tell how many patients stand before her.
    """
    return functools.reduce(torch.add, squares)


def _clip_factors(squares: Tensor, max_grad_norm: float) -> tuple[Tensor, int]:
    """Return the factor of each patient, 0 where the squared length ``(P,)`` is not finite, and how many those are."""
    is_rejected = ~torch.isfinite(squares)
    factors = (max_grad_norm / squares.sqrt()).clamp(max=1)
    return factors.masked_fill(is_rejected, 0), int(is_rejected.sum())


def _weighted_sum(factors: Tensor, by_patient: Tensor) -> Tensor:
    """Return the sum over the first dimension, weighted by ``factors``, where a factor of 0 silences NaN too."""
    is_kept = factors > 0
    if not is_kept.all():
        factors, by_patient = factors[is_kept], by_patient[is_kept]
    total: Tensor = torch.tensordot(factors, by_patient.double(), dims=1)
    return total
