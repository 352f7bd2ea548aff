"""Which of the three methods computes the clipped sum, and how many lesions go through the network in one pass.

All methods return the same sum; they differ in speed, memory, and in the modules that they work with. Neither choice
looks at a patient: the method follows from the module, the number of rows of a pass from the shape of its inputs.
"""

import dataclasses
import logging
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import StrEnum

import torch
from torch import Tensor, nn

from client.training.clipped_gradients import (
    ClippedSum,
    ghost_terms,
    record_gradients,
    sum_by_ghost_norms,
    sum_by_patient,
    sum_by_record,
    trainable_parameters,
    zero_gradients,
)
from client.training.ghost_norms import UnsuitableNetworkError
from client.training.patient_loss import summed_loss
from client.training.patients import LesionsByPatient, PatientBatch
from shared_model.config.site_sections import TrainingConfig
from shared_model.data.lesions import Lesions
from shared_model.network.fusion import FusionNet
from shared_model.network.row_independence import layer_outputs, positions_agree, with_invented_numbers

logger = logging.getLogger(__name__)

ROWS_PER_PASS = 256
"""Rows of one pass, where inputs are cached features; a multiple of every kernel's block of rows."""
BYTES_PER_PASS = 32 * 2**20
"""Most memory that one pass takes beside the network, where inputs are cached features."""
PIXELS_PER_PASS = {"cpu": 2**17, "cuda": 2**21}
"""The same in pixels, where feature maps outweigh the rest: a processor's cache holds those of few images."""
RECORD_PIXELS = 64**2
RECORD_PARAMETERS = 2**18
"""Largest image and network for which ``GradientMethod.RECORD`` takes pixels. Measured with ``small_cnn`` on one core:
at 48 to 64 pixels a side a fifth faster than ``PATIENT``, at 32 as fast, from 96 on slower; memory grows with both."""


class GradientMethod(StrEnum):
    """How the clipped sum is computed; every method returns the same."""

    GHOST = "ghost"
    """Linear layers only, one pass: lengths from pairs of lesions, or from entries where that is less work."""
    RECORD = "record"
    """One vectorised pass: each lesion's gradient, averaged by patient."""
    PATIENT = "patient"
    """One ordinary backward pass per patient: any module."""


_SUMS: dict[GradientMethod, Callable[[nn.Module, PatientBatch, TrainingConfig, float], ClippedSum]] = {
    GradientMethod.GHOST: sum_by_ghost_norms,
    GradientMethod.RECORD: sum_by_record,
    GradientMethod.PATIENT: sum_by_patient,
}


RECORD_TERMS: dict[GradientMethod, Callable[[nn.Module, PatientBatch, TrainingConfig], Sequence[Tensor]]] = {
    GradientMethod.GHOST: ghost_terms,
    GradientMethod.RECORD: record_gradients,
}
"""What a method computes of every lesion, one row each, before patients are added up."""


_CHOSEN: dict[Hashable, GradientMethod] = {}
_MAX_KINDS = 64
"""Kinds of networks whose method is remembered: a server that asks for ever new ones fills no memory."""


def choose_gradient_method(model: nn.Module, by_patient: LesionsByPatient, config: TrainingConfig) -> GradientMethod:
    """Return the fastest method that works for ``model``, as the privacy benchmark measured them.

    For cached features that is ``GHOST``, for small images on small networks ``RECORD``; where it does not work, the
    next in the order of ``GradientMethod``. Each is tried on two invented patients, never on real ones: methods differ
    in their last bits, so a choice that followed a patient would change the others' sum. Parameters are invented too:
    with those of a request, such as zeros, a trial may see nothing. So one trial tells for all networks of a kind, and
    is remembered, unless it ended in an error of torch's that may pass, such as a want of memory.
    """
    candidates = _candidates(model, by_patient)
    if type(model) is not FusionNet:
        # What another module computes its parts do not tell.
        return _first_that_works(candidates, model, by_patient, config)[0]
    kind = (candidates, _kind(model, by_patient.lesions, config))
    method = _CHOSEN.get(kind)
    if method is None:
        method, is_lasting = _first_that_works(candidates, model, by_patient, config)
        if is_lasting:
            if len(_CHOSEN) >= _MAX_KINDS:
                _CHOSEN.clear()
            _CHOSEN[kind] = method
    return method


def _kind(model: FusionNet, lesions: Lesions, config: TrainingConfig) -> Hashable:
    """Return all that a trial depends on: structure, modules, shapes of parameters and inputs, loss, threads."""
    columns = (lesions.images, lesions.has_image, lesions.clinical, lesions.labels)
    return (
        # What the network was built as, and what it is: somebody may have put another layer in.
        model.structure,
        tuple((name, type(module), module.training, module.extra_repr()) for name, module in model.named_modules()),
        tuple((name, values.shape, values.dtype, values.requires_grad) for name, values in model.named_parameters()),
        tuple((name, values.shape, values.dtype) for name, values in model.named_buffers()),
        tuple((values.shape[1:], values.dtype, values.device) for values in columns),
        config,
        torch.get_num_threads(),
    )


def _first_that_works(
    candidates: Iterable[GradientMethod], model: nn.Module, by_patient: LesionsByPatient, config: TrainingConfig
) -> tuple[GradientMethod, bool]:
    """Return the method, and whether another trial would find the same: not after an error that may pass."""
    is_lasting = True
    for method in candidates:
        try:
            batch, invented = _invented_patients(by_patient.lesions), with_invented_numbers(model)
            _require_lesions_apart(invented, batch)
            _SUMS[method](invented, batch, config, 1.0)
            _require_positions_agree(invented, by_patient, config, method)
        except RuntimeError as error:
            # Torch's own may be a want of memory.
            is_lasting = is_lasting and isinstance(error, UnsuitableNetworkError)
            logger.info("Gradients are not computed by the method %s: %s", method, error)
        else:
            return method, is_lasting
    return GradientMethod.PATIENT, is_lasting


def _candidates(model: nn.Module, by_patient: LesionsByPatient) -> tuple[GradientMethod, ...]:
    images = by_patient.lesions.images
    if images.ndim == 2:
        return GradientMethod.GHOST, GradientMethod.RECORD
    num_parameters = sum(parameter.numel() for parameter in trainable_parameters(model))
    is_small = _num_values(images) <= RECORD_PIXELS and num_parameters <= RECORD_PARAMETERS
    return (GradientMethod.RECORD,) if is_small else ()


def _num_values(rows: Tensor) -> int:
    """Return the number of values of a row, also where there is none: an empty cohort is computed like any other."""
    return math.prod(rows.shape[1:])


def _invented_patients(lesions: Lesions) -> PatientBatch:
    """Return two patients, with two lesions and one, of the shapes of ``lesions``."""
    generator = torch.Generator().manual_seed(0)

    def noise(values: Tensor) -> Tensor:
        return torch.rand((3, *values.shape[1:]), generator=generator).to(values)

    device = lesions.labels.device
    return PatientBatch(
        images=noise(lesions.images),
        has_image=torch.ones(3, dtype=torch.bool, device=device),
        clinical=noise(lesions.clinical),
        labels=torch.tensor([0.0, 1.0, 1.0], device=device),
        sizes=torch.tensor([2, 1], device=device),
    )


def _require_lesions_apart(model: nn.Module, batch: PatientBatch) -> None:
    """Refuse a module for which a lesion in a batch gives another logit than the same lesion alone.

    A patient's gradient in a pass over many would then depend on the others. This tries examples and proves nothing:
    that no lesion depends on another is for the module to ensure, unless the method is ``PATIENT``.

    Raises:
        UnsuitableNetworkError: the first lesion's logit differs, or what a layer with trainable parameters reads of it.
    """
    in_batch, alone = (_what_layers_read(model, inputs) for inputs in (batch.inputs, [v[:1] for v in batch.inputs]))
    for several, one in zip(in_batch, alone, strict=True):
        if not torch.allclose(several[:1], one, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise UnsuitableNetworkError("Expected a lesion's logit not to depend on other lesions in the batch.")


def _require_positions_agree(
    model: nn.Module, by_patient: LesionsByPatient, config: TrainingConfig, method: GradientMethod
) -> None:
    """Refuse a method that gives a patient other numbers elsewhere in the batch, on this machine and for these shapes.

    Raises:
        UnsuitableNetworkError: one of the method's terms differs between positions, if only in its last bit.
    """
    num_rows = GradientSource(model=model, by_patient=by_patient, config=config, method=method).rows_per_pass
    terms = RECORD_TERMS[method]
    lesions = _invented_patients(by_patient.lesions)
    inputs = [values[:1].expand(num_rows, *values.shape[1:]) for values in lesions.inputs]
    does_agree = positions_agree(lambda rows: layer_outputs(model, rows), inputs)
    for label in (0.0, 1.0):
        labels = torch.full((num_rows,), label, device=lesions.labels.device)

        def compute(rows: Sequence[Tensor], labels: Tensor = labels) -> Sequence[Tensor]:
            images, has_image, clinical = rows
            sizes = torch.ones(num_rows, dtype=torch.int64, device=labels.device)
            batch = PatientBatch(images=images, has_image=has_image, clinical=clinical, labels=labels, sizes=sizes)
            return terms(model, batch, config)

        does_agree = does_agree and positions_agree(compute, inputs)
    if not does_agree:
        raise UnsuitableNetworkError("Expected a row to give the same numbers at every position of the batch.")


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
    """Gradients of ``model`` on a site's patients, computed in passes that fit the memory."""

    model: nn.Module
    by_patient: LesionsByPatient
    config: TrainingConfig
    method: GradientMethod

    def clipped_sum(self, patients: Tensor, max_grad_norm: float) -> ClippedSum:
        """Return the clipped sum over ``patients`` (indices, possibly none)."""
        total = zero_gradients(trainable_parameters(self.model))
        num_rejected = 0
        for batch in self.by_patient.batches(patients, num_rows=self.rows_per_pass):
            part = _SUMS[self.method](self.model, batch, self.config, max_grad_norm)
            total = tuple(entry + values for entry, values in zip(total, part.gradients, strict=True))
            num_rejected += part.num_rejected
        return ClippedSum(total, num_rejected)

    def plain_sum(self, patients: Tensor) -> ClippedSum:
        """Return the sum without clipping, by few backward passes if all of the gradients are finite."""
        parameters = trainable_parameters(self.model)
        total = zero_gradients(parameters)
        for batch in self.by_patient.batches(patients, num_rows=self.rows_per_pass):
            loss = summed_loss(self.model, batch, self.config)
            gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
            total = tuple(entry + values for entry, values in zip(total, gradients, strict=True))
        if all(bool(torch.isfinite(values).all()) for values in total):
            return ClippedSum(total, 0)
        return self.clipped_sum(patients, math.inf)

    @property
    def rows_per_pass(self) -> int:
        """Rows of every pass, however many patients there are."""
        images, clinical = self.by_patient.lesions.images, self.by_patient.lesions.clinical
        if images.ndim > 2:
            return max(1, PIXELS_PER_PASS[images.device.type] // _num_values(images))
        num_values = 4 * (_num_values(images) + _num_values(clinical) + 1)
        if self.method is GradientMethod.RECORD:
            num_values += 2 * sum(parameter.numel() for parameter in trainable_parameters(self.model))
        return max(1, min(ROWS_PER_PASS, BYTES_PER_PASS // (4 * num_values)))
