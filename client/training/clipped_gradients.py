"""Three ways to the sum of the patients' clipped gradients: ghost norms, per record, per patient.

A patient's gradient is that of the mean loss over all of the patient's lesions; it is scaled down to a length of at
most ``max_grad_norm`` (Abadi et al. 2016, Alg. 1, with a patient in place of an example), then all are added up.

Formal guarantee of every way: adding or removing one patient moves the sum by at most ``max_grad_norm`` times
``1 + 1e-6``, taking each patient's float32 forward and backward pass as exact. Lengths, factors and sums are float64,
and lengths round up. What remains is that torch may round the last bit of another patient's pass differently in other
company, for which ``private_training.ROUNDING_MARGIN`` pays; it does not concern ``GradientWay.PATIENT``, where every
patient has a pass of its own.
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from client.training.ghost_norms import outer_products
from client.training.patients import Bags, Cohort
from shared_model.config.choices import Loss
from shared_model.config.experiment import TrainingConfig

logger = logging.getLogger(__name__)

CHUNK_BYTES = 32 * 2**20
"""Bound on what is held at once beside the network, where inputs are cached features."""
_BLOCK = 128
"""Rows converted to float64 at once: few enough to stay in the processor's cache."""
PIXELS_PER_PASS = {"cpu": 2**17, "cuda": 2**21}
"""The same in pixels, where feature maps outweigh the rest: a processor's cache holds those of few images."""
RECORD_PIXELS = 64**2
RECORD_PARAMETERS = 2**18
"""Largest image and network for which ``GradientWay.RECORD`` takes pixels. Measured with ``small_cnn`` on one core: at
48 to 64 pixels a side a fifth faster than ``PATIENT``, at 32 as fast, from 96 on slower; memory grows with both."""

Gradients = tuple[Tensor, ...]
"""One tensor of its shape per trainable parameter."""


class ClippedSum(NamedTuple):
    """The sum, float64, of clipped gradients, and how many patients it leaves out since theirs is not finite."""

    gradients: Gradients
    num_rejected: int


class GradientWay(StrEnum):
    """How the clipped sum is computed; every way returns the same."""

    GHOST = "ghost"
    """Linear layers only, one pass: lengths from Gram matrices, so that no gradient of a patient is ever formed."""
    RECORD = "record"
    """One vectorised pass: each lesion's gradient, averaged by patient."""
    PATIENT = "patient"
    """One ordinary backward pass per patient: any module."""


def record_loss(logits: Tensor, labels: Tensor, config: TrainingConfig) -> Tensor:
    """Return each lesion's loss; no lesion's loss depends on another lesion.

    Cross-entropy, or focal loss (Lin et al. 2017, Eq. 4), of the logit; a malignant lesion's loss is multiplied by
    the public constant ``positive_weight``.

    Args:
        logits: ``(N,)``, any real value.
        labels: ``(N,)``, float, 1 malignant and 0 benign.
        config: loss, focal_gamma and positive_weight are read.

    Returns:
        ``(N,)``, non-negative.
    """
    signed = (2 * labels - 1) * logits
    loss = (1 + (config.positive_weight - 1) * labels) * functional.softplus(-signed)
    if config.loss is Loss.FOCAL:
        # (1 - p_t)^gamma; through the logarithm, its gradient stays finite for every gamma and logit.
        loss = loss * torch.exp(config.focal_gamma * functional.logsigmoid(-signed))
    return loss


def summed_loss(model: nn.Module, bags: Bags, config: TrainingConfig) -> Tensor:
    """Return the sum over patients of the mean loss over the patient's lesions, a scalar."""
    return (bags.weights * record_loss(model(*bags.inputs), bags.labels, config)).sum()


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of ``model`` that require a gradient, in the order of the module.

    Raises:
        ValueError: there are none.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("Expected a model with at least one trainable parameter.")
    return parameters


def sum_by_ghost_norms(model: nn.Module, bags: Bags, config: TrainingConfig, max_grad_norm: float) -> ClippedSum:
    """Return the clipped sum without forming any patient's gradient (Goodfellow 2015; Li et al. 2022, Sec. 4).

    The price is that lesions must not depend on each other: see ``client.training.ghost_norms``.

    Raises:
        RuntimeError: a trainable parameter is not that of a linear layer, or the layer does not see every lesion
            exactly once, as one row.
    """
    products = outer_products(model, lambda: summed_loss(model, bags, config), num_lesions=len(bags.labels))
    squares = torch.stack([product.squared_lengths(bags.sizes) for product in products]).sum(0)
    factors, num_rejected = _clip_factors(squares, max_grad_norm)
    total: dict[Tensor, Tensor] = {}
    for product in products:
        total |= product.summed(factors[bags.owners])
    return ClippedSum(tuple(total[parameter] for parameter in trainable_parameters(model)), num_rejected)


def sum_by_record(model: nn.Module, bags: Bags, config: TrainingConfig, max_grad_norm: float) -> ClippedSum:
    """Return the clipped sum from the gradients of all lesions, computed in one call.

    Raises:
        RuntimeError: torch cannot vectorise ``model``, for example because it indexes by a mask or draws at random.
    """
    trainable = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}

    def loss(parameters: dict[str, Tensor], weight: Tensor, label: Tensor, *inputs: Tensor) -> Tensor:
        logits = functional_call(model, parameters, tuple(values.unsqueeze(0) for values in inputs))
        return weight * record_loss(logits, label, config).sum()

    in_dims = (None, *(0 for _ in range(2 + len(bags.inputs))))
    of_record = vmap(grad(loss), in_dims=in_dims)(trainable, bags.weights, bags.labels, *bags.inputs)
    of_patient = [
        values.new_zeros(len(bags.sizes), *values.shape[1:]).index_add_(0, bags.owners, values)
        for values in (of_record[name] for name in trainable)
    ]
    lengths = [
        torch.linalg.vector_norm(values.unsqueeze(1).flatten(1), dim=1, dtype=torch.float64) for values in of_patient
    ]
    factors, num_rejected = _clip_factors(torch.stack(lengths).square().sum(0), max_grad_norm)
    return ClippedSum(tuple(_weighted_sum(factors, values) for values in of_patient), num_rejected)


def sum_by_patient(model: nn.Module, bags: Bags, config: TrainingConfig, max_grad_norm: float) -> ClippedSum:
    """Return the clipped sum by one ordinary backward pass per patient, for any module."""
    parameters = trainable_parameters(model)
    total = _zeros(parameters)
    num_rejected = 0
    for bag in bags.each():
        found = torch.autograd.grad(summed_loss(model, bag, config), parameters, materialize_grads=True)
        lengths = torch.stack([torch.linalg.vector_norm(values, dtype=torch.float64) for values in found])
        factors, is_rejected = _clip_factors(lengths.square().sum().view(1), max_grad_norm)
        num_rejected += is_rejected
        if not is_rejected:
            for entry, values in zip(total, found, strict=True):
                entry.add_(values, alpha=float(factors))
    return ClippedSum(total, num_rejected)


_SUMS: dict[GradientWay, Callable[[nn.Module, Bags, TrainingConfig, float], ClippedSum]] = {
    GradientWay.GHOST: sum_by_ghost_norms,
    GradientWay.RECORD: sum_by_record,
    GradientWay.PATIENT: sum_by_patient,
}


def choose_way(model: nn.Module, cohort: Cohort, config: TrainingConfig) -> GradientWay:
    """Return the fastest way that ``model`` allows, as measured by ``simulations.benchmarks.command``.

    For cached features that is ``GHOST``, for small images on small networks ``RECORD``, and each time the next in the
    order of ``GradientWay`` where it does not work. That is tried on the first two patients with finite inputs.
    """
    trial = torch.nonzero(cohort.is_finite).squeeze(1)[:2]
    for way in _candidates(model, cohort) if len(trial) else ():
        try:
            bags = cohort.bags(trial)
            _require_lesions_apart(model, bags)
            _SUMS[way](model, bags, config, 1.0)
        except RuntimeError as error:
            logger.info("The gradients are not computed by way of %s: %s", way, error)
        else:
            return way
    return GradientWay.PATIENT


def _candidates(model: nn.Module, cohort: Cohort) -> tuple[GradientWay, ...]:
    images = cohort.lesions.images
    if images.ndim == 2:
        return GradientWay.GHOST, GradientWay.RECORD
    num_parameters = sum(parameter.numel() for parameter in trainable_parameters(model))
    is_small = images[:1].numel() <= RECORD_PIXELS and num_parameters <= RECORD_PARAMETERS
    return (GradientWay.RECORD,) if is_small else ()


def _require_lesions_apart(model: nn.Module, bags: Bags) -> None:
    """Refuse a module for which a lesion in company differs from the same lesion alone.

    A patient's gradient in a pass over many would then depend on the others. The test is one of examples: that no
    lesion depends on another is a promise of the module, which ``PATIENT`` alone does not need.

    Raises:
        RuntimeError: the first lesion's logit, or what a layer with trainable parameters reads of it, differs.
    """
    in_company, alone = (_what_layers_read(model, inputs) for inputs in (bags.inputs, [v[:1] for v in bags.inputs]))
    for several, one in zip(in_company, alone, strict=True):
        if not torch.allclose(several[:1], one, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise RuntimeError("Expected a lesion's logit not to depend on other lesions in the batch.")


def _what_layers_read(model: nn.Module, inputs: Iterable[Tensor]) -> list[Tensor]:
    read: list[Tensor] = []
    handles = [
        module.register_forward_pre_hook(lambda _, arguments: read.extend(arguments))
        for module in model.modules()
        if any(parameter.requires_grad for parameter in module.parameters(recurse=False))
    ]
    try:
        with torch.no_grad():
            logits = model(*inputs)
        return [*read, logits]
    finally:
        for handle in handles:
            handle.remove()


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GradientSource:
    """Gradients of ``model`` on the patients of ``cohort``, computed in parts that fit the memory."""

    model: nn.Module
    cohort: Cohort
    config: TrainingConfig
    way: GradientWay

    def clipped_sum(self, patients: Tensor, max_grad_norm: float) -> ClippedSum:
        """Return the clipped sum over ``patients`` (indices, possibly none)."""
        total = _zeros(trainable_parameters(self.model))
        num_rejected = 0
        for bags in self.cohort.chunks(patients, num_lesions=self._lesions_per_pass()):
            part = _SUMS[self.way](self.model, bags, self.config, max_grad_norm)
            total = tuple(entry + values for entry, values in zip(total, part.gradients, strict=True))
            num_rejected += part.num_rejected
        return ClippedSum(total, num_rejected)

    def plain_sum(self, patients: Tensor) -> ClippedSum:
        """Return the sum without clipping, by few backward passes if all of the gradients are finite."""
        parameters = trainable_parameters(self.model)
        total = _zeros(parameters)
        for bags in self.cohort.chunks(patients, num_lesions=self._lesions_per_pass()):
            found = torch.autograd.grad(summed_loss(self.model, bags, self.config), parameters, materialize_grads=True)
            total = tuple(entry + values for entry, values in zip(total, found, strict=True))
        if all(bool(torch.isfinite(values).all()) for values in total):
            return ClippedSum(total, 0)
        return self.clipped_sum(patients, math.inf)

    def _lesions_per_pass(self) -> int:
        images, clinical = self.cohort.lesions.images, self.cohort.lesions.clinical
        if images.ndim > 2:
            return max(1, PIXELS_PER_PASS[images.device.type] // images[:1].numel())
        num_values = 4 * (images[:1].numel() + clinical[:1].numel() + 1)
        if self.way is GradientWay.RECORD:
            num_values += 2 * sum(parameter.numel() for parameter in trainable_parameters(self.model))
        return max(1, CHUNK_BYTES // (4 * num_values))


def _clip_factors(squares: Tensor, max_grad_norm: float) -> tuple[Tensor, int]:
    """Return the factor of each patient, 0 where the squared length ``(P,)`` is not finite, and how many those are."""
    is_rejected = ~torch.isfinite(squares)
    factors = (max_grad_norm / squares.sqrt()).clamp(max=1)
    return factors.masked_fill(is_rejected, 0), int(is_rejected.sum())


def _weighted_sum(factors: Tensor, of_patient: Tensor) -> Tensor:
    """Return the sum over the first dimension, weighted by ``factors``, where a factor of 0 silences NaN too."""
    is_kept = factors > 0
    if not is_kept.all():
        factors, of_patient = factors[is_kept], of_patient[is_kept]
    total: Tensor = torch.tensordot(factors, of_patient.double(), dims=1)
    return total


def _zeros(parameters: list[nn.Parameter]) -> Gradients:
    return tuple(torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters)
