"""One round of differentially private training at a site, with the patient as the privacy unit.

A step draws patients, takes each one's gradient of the mean loss over all of that patient's lesions, clips it, adds
the clipped gradients up and adds Gaussian noise once (Abadi et al. 2016, Alg. 1, with a patient in place of an
example). However many lesions a patient has, the sum moves by at most ``max_grad_norm``.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Self

import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.optim import SGD

from client.noise import NoiseGenerator
from shared_model.accounting import PrivacyPlan
from shared_model.config import Loss, TrainingConfig
from shared_model.errors import PrivacyError
from shared_model.lesions import Lesions

logger = logging.getLogger(__name__)

CHUNK_BYTES = 32 * 2**20
"""Bound on the per-patient gradients and inputs held at once."""

Gradients = tuple[Tensor, ...]
"""One tensor per trainable parameter: of its shape, or ``(P, *shape)`` for the gradients of ``P`` patients."""
PATIENTS_PER_PASS = 16
"""Patients in one pass over pixels where no gradient per patient is needed."""

Progress = Callable[[int, int], None]
"""Called after each step with the number of steps done and the number of steps in all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """What one round does at a site.

    Raises:
        PrivacyError: the plan was made for another sampling rate or number of steps than ``config`` has.
        ValueError: ``proximal_mu`` is negative.
    """

    config: TrainingConfig
    plan: PrivacyPlan | None
    """Null trains without clipping and noise: for comparison only."""
    proximal_mu: float = 0.0
    """Pull towards the parameters at the start of the round (Li et al. 2020, Eq. 2)."""

    def __post_init__(self) -> None:
        if self.proximal_mu < 0:
            raise ValueError(f"Expected proximal_mu={self.proximal_mu} >= 0.")
        if self.plan is None:
            return
        for name, planned, configured in (
            ("sampling_rate", self.plan.sampling_rate, self.config.sampling_rate),
            ("local_steps", self.plan.steps_per_round, self.config.local_steps),
        ):
            if planned != configured:
                raise PrivacyError(f"Expected training.{name}={configured} == {planned}, as the privacy plan has it.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundFacts:
    """Counts for the site's own log; those over patients are secret and must not leave the site."""

    num_steps: int
    num_draws: int
    """Patients drawn, summed over the steps."""
    num_rejected_draws: int
    """Those of them that contributed nothing, because an input, the loss or the gradient was not finite."""


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


class Bag(NamedTuple):
    """Lesions with weights: ``(B, ...)``, or ``(P, B, ...)`` for ``P`` patients padded to the largest bag."""

    images: Tensor
    has_image: Tensor
    clinical: Tensor
    labels: Tensor
    weights: Tensor
    """1 / (the patient's number of lesions); 0 for padding, which repeats the patient's own first lesion."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Cohort:
    """A site's lesions grouped by patient; patient ``i`` here is the one with the ``i``-th smallest number."""

    lesions: Lesions
    patient_of: Tensor
    """``(N,)``, int64: the patient of each lesion."""
    rows: Tensor
    """``(N,)``, int64: row numbers, patient after patient."""
    sizes: Tensor
    """``(P,)``, int64: each patient's number of lesions."""
    is_finite: Tensor
    """``(P,)``, bool: whether all of the patient's inputs are finite."""

    @classmethod
    def of(cls, lesions: Lesions) -> Self:
        """Group ``lesions`` by patient."""
        _, patient_of, sizes = torch.unique(lesions.patients, return_inverse=True, return_counts=True)
        is_finite = torch.ones_like(sizes, dtype=torch.bool)
        for values in (lesions.images, lesions.clinical, lesions.labels):
            is_finite[patient_of[~torch.isfinite(values).unsqueeze(-1).flatten(1).all(1)]] = False
        rows = torch.argsort(patient_of, stable=True)
        return cls(lesions=lesions, patient_of=patient_of, rows=rows, sizes=sizes, is_finite=is_finite)

    def padded(self, patients: Tensor) -> Bag:
        """Return the lesions of ``patients`` (indices, at least one), one bag each."""
        sizes = self.sizes[patients].unsqueeze(1)
        starts = (torch.cumsum(self.sizes, 0) - self.sizes)[patients].unsqueeze(1)
        position = torch.arange(int(sizes.max()), device=sizes.device)
        is_lesion = position < sizes
        return self._bag(self.rows[starts + position * is_lesion], is_lesion / sizes)

    def pooled(self, patients: Tensor) -> Bag:
        """Return the lesions of ``patients`` (indices) without padding, all in one bag."""
        is_chosen = torch.zeros_like(self.is_finite).index_fill(0, patients, value=True)
        rows = torch.nonzero(is_chosen[self.patient_of]).squeeze(1)
        return self._bag(rows, 1 / self.sizes[self.patient_of[rows]])

    def chunks(self, patients: Tensor, *, num_parameters: int) -> Iterator[Tensor]:
        """Split ``patients`` into parts that fit ``CHUNK_BYTES``, of like bag sizes: padding at most doubles a bag."""
        values_per_lesion = self.lesions.images[:1].numel() + self.lesions.clinical[:1].numel()
        magnitude = torch.log2(self.sizes[patients].double()).ceil().long()
        for exponent in torch.unique(magnitude).tolist():
            bytes_per_patient = 4 * (num_parameters + 2**exponent * values_per_lesion)
            yield from patients[magnitude == exponent].split(max(1, CHUNK_BYTES // bytes_per_patient))  # type: ignore[no-untyped-call]

    def _bag(self, rows: Tensor, weights: Tensor) -> Bag:
        of = self.lesions
        return Bag(of.images[rows], of.has_image[rows], of.clinical[rows], of.labels[rows], weights)


def gradients_by_vmap(model: nn.Module, bags: Bag, config: TrainingConfig) -> Gradients:
    """Return each patient's gradient of the weighted sum of losses, for all patients of ``bags`` in one call.

    Raises:
        RuntimeError: torch cannot vectorise ``model``, for example because it indexes by a mask or draws at random.
    """
    parameters = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}

    def loss(parameters: dict[str, Tensor], *bag: Tensor) -> Tensor:
        return _bag_loss(lambda *inputs: functional_call(model, parameters, inputs), Bag(*bag), config)

    per_patient = vmap(grad(loss), in_dims=(None, *(0 for _ in bags)))(parameters, *bags)
    return tuple(per_patient[name] for name in parameters)


def gradients_by_backward(model: nn.Module, bags: Bag, config: TrainingConfig) -> Gradients:
    """Return what ``gradients_by_vmap`` returns by one ordinary backward pass per patient, for any module."""
    per_patient = []
    for bag in zip(*bags, strict=True):
        is_lesion = Bag(*bag).weights > 0
        loss = _bag_loss(model, Bag(*(values[is_lesion] for values in bag)), config)
        per_patient.append(torch.autograd.grad(loss, trainable_parameters(model), materialize_grads=True))
    return tuple(torch.stack(gradients) for gradients in zip(*per_patient, strict=True))


GradientMethod = Callable[[nn.Module, Bag, TrainingConfig], Gradients]


def choose_method(model: nn.Module, cohort: Cohort, config: TrainingConfig) -> GradientMethod:
    """Return ``gradients_by_vmap`` for cached features where ``model`` allows it, else ``gradients_by_backward``."""
    if cohort.lesions.images.ndim > 2 or not len(cohort.sizes):
        return gradients_by_backward
    try:
        gradients_by_vmap(model, cohort.padded(torch.zeros_like(cohort.sizes[:1])), config)
    except RuntimeError as error:
        logger.info("One backward pass per patient, since the model cannot be vectorised: %s", error)
        return gradients_by_backward
    return gradients_by_vmap


def reject_non_finite(gradients: Gradients) -> tuple[Gradients, int]:
    """Zero the gradient of every patient whose gradient's norm is not finite; return also how many those are."""
    norms = torch.stack([values.unsqueeze(1).flatten(1).norm(dim=1) for values in gradients]).norm(dim=0)
    is_rejected = ~torch.isfinite(norms)
    if not is_rejected.any():
        return gradients, 0
    # Masked, not multiplied: NaN times zero is NaN.
    kept = tuple(values.masked_fill(is_rejected.view(-1, *[1] * (values.ndim - 1)), 0) for values in gradients)
    return kept, int(is_rejected.sum())


class PatientOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimiser, fed with gradients per patient instead of per example.

    Opacus clips (over all parameters jointly), sums and scales. The noise comes from a keystream, and the scale is the
    public ``sampling_rate * num_patients_declared``, not the number of patients drawn, which is secret.
    """

    def __init__(self, optimizer: SGD, *, plan: PrivacyPlan, noise: NoiseGenerator) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.max_grad_norm,
            expected_batch_size=plan.sampling_rate * plan.num_patients_declared,
        )
        self._noise = noise

    def accumulate(self, gradients: Iterable[Tensor]) -> None:
        """Clip the finite ``gradients`` of some patients, ``(P, *shape)`` each, and add them to the step's sum."""
        for parameter, values in zip(self.params, gradients, strict=True):
            parameter.grad_sample = values
        self.clip_and_accumulate()
        for parameter in self.params:
            parameter.grad_sample = None

    def release(self) -> None:
        """Add noise to the sum and take the step, also where no patient was drawn."""
        for parameter in self.params:
            parameter.grad_sample = parameter.new_empty((0, *parameter.shape))
        self.step()
        self.zero_grad(set_to_none=True)

    def add_noise(self) -> None:
        """Write sum plus noise to ``grad``, added in float64 and rounded once.

        Rounding the noise before adding would leave traces of the sum in the low bits (Mironov 2012).
        """
        std = self.noise_multiplier * self.max_grad_norm
        for parameter in self.params:
            noise = self._noise.normal(parameter.shape, std=std, dtype=torch.float64).to(parameter.device)
            parameter.grad = (parameter.summed_grad.double() + noise).to(parameter.dtype)


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of ``model`` that require a gradient, in the order of the module.

    Raises:
        ValueError: there are none.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("Expected a model with at least one trainable parameter.")
    return parameters


def draw_patients(cohort: Cohort, sampling_rate: float, noise: NoiseGenerator) -> Tensor:
    """Return the indices of the patients of one step: each with probability ``sampling_rate``, independently."""
    count = len(cohort.sizes)
    if sampling_rate == 1:
        return torch.arange(count)
    return torch.nonzero(noise.uniform(count) < sampling_rate).squeeze(1)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class GradientSource:
    """Gradients of ``model`` on the patients of ``cohort``."""

    model: nn.Module
    cohort: Cohort
    config: TrainingConfig
    method: GradientMethod

    def of_patients(self, patients: Tensor) -> Iterator[tuple[Gradients, int]]:
        """Yield the gradients of some patients after the others, with the number of those rejected (all zero)."""
        num_parameters = sum(parameter.numel() for parameter in trainable_parameters(self.model))
        for chunk in self.cohort.chunks(patients, num_parameters=num_parameters):
            yield reject_non_finite(self.method(self.model, self.cohort.padded(chunk), self.config))

    def summed(self, patients: Tensor) -> tuple[Gradients, int]:
        """Return the sum of the patients' gradients, by one backward pass if all are finite, and the rejected."""
        parameters = trainable_parameters(self.model)
        zeros = tuple(torch.zeros_like(parameter) for parameter in parameters)
        total, size = zeros, PATIENTS_PER_PASS if self.cohort.lesions.images.ndim > 2 else max(1, len(patients))
        for part in patients.split(size):  # type: ignore[no-untyped-call]
            loss = _bag_loss(self.model, self.cohort.pooled(part), self.config)
            total = _add(total, torch.autograd.grad(loss, parameters, materialize_grads=True))
        if all(bool(torch.isfinite(values).all()) for values in total):
            return total, 0
        total, num_rejected = zeros, 0
        for gradients, rejected in self.of_patients(patients):
            total = _add(total, tuple(values.sum(0) for values in gradients))
            num_rejected += rejected
        return total, num_rejected


def train_round(
    model: nn.Module,
    lesions: Lesions,
    *,
    training: LocalTraining,
    noise: NoiseGenerator,
    progress: Progress | None = None,
) -> RoundFacts:
    """Train ``model`` in place on the cohort ``lesions``.

    With a plan, the new parameters are the output of the plan's mechanism of one round, on neighbouring cohorts that
    differ by one patient; momentum, weight decay and the proximal term act after the noise. Without a plan, the same
    steps are taken without clipping and noise, each scaled by the number of patients drawn.

    Args:
        model: called as ``model(images, has_image, clinical)``, returns logits ``(N,)``; its parameters on entry are
            the global ones, towards which the proximal term pulls. Training or evaluation mode stays as it is.
        lesions: the cohort, on the model's device.
        training: what to do.
        noise: draws the patients and the noise.
        progress: called after each step.

    Raises:
        PrivacyError: the model couples patients by batch statistics.
        ValueError: the model has no trainable parameter.
    """
    config, plan, cohort = training.config, training.plan, Cohort.of(lesions)
    parameters = trainable_parameters(model)
    sgd = SGD(parameters, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)
    pull = _proximal_pull(parameters, training.proximal_mu)
    optimizer = None
    if plan is not None:
        _require_independent_patients(model)
        optimizer = PatientOptimizer(sgd, plan=plan, noise=noise)
        optimizer.attach_step_hook(lambda _: pull())
    source = GradientSource(model=model, cohort=cohort, config=config, method=choose_method(model, cohort, config))
    num_draws = num_rejected = 0
    for step in range(config.local_steps):
        drawn = draw_patients(cohort, config.sampling_rate, noise).to(lesions.labels.device)
        usable = drawn[cohort.is_finite[drawn]]
        num_draws += len(drawn)
        num_rejected += len(drawn) - len(usable)
        if optimizer is None:
            total, rejected = source.summed(usable)
            for parameter, values in zip(parameters, total, strict=True):
                parameter.grad = values / max(1, len(drawn))
            num_rejected += rejected
            pull()
            sgd.step()
        else:
            for gradients, rejected in source.of_patients(usable):
                optimizer.accumulate(gradients)
                num_rejected += rejected
            optimizer.release()
        if progress is not None:
            progress(step + 1, config.local_steps)
    sgd.zero_grad(set_to_none=True)
    return RoundFacts(num_steps=config.local_steps, num_draws=num_draws, num_rejected_draws=num_rejected)


def _add(left: Gradients, right: Gradients) -> Gradients:
    return tuple(first + second for first, second in zip(left, right, strict=True))


def _bag_loss(forward: Callable[..., Tensor], bag: Bag, config: TrainingConfig) -> Tensor:
    logits = forward(bag.images, bag.has_image, bag.clinical)
    return (bag.weights * record_loss(logits, bag.labels, config)).sum()


def _proximal_pull(parameters: list[nn.Parameter], proximal_mu: float) -> Callable[[], None]:
    start = [parameter.detach().clone() for parameter in parameters]

    def pull() -> None:
        with torch.no_grad():
            for parameter, origin in zip(parameters, start, strict=True):
                if parameter.grad is not None:
                    parameter.grad += proximal_mu * (parameter - origin)

    return pull


def _require_independent_patients(model: nn.Module) -> None:
    """Refuse batch statistics, through which one patient would reach another's gradient or the buffers."""
    for name, module in model.named_modules():
        is_trained = isinstance(module, _BatchNorm) and any(p.requires_grad for p in module.parameters(recurse=False))
        uses_batch = (
            isinstance(module, _NormBase)
            and module.training
            and (isinstance(module, _BatchNorm) or module.track_running_stats)
        )
        if is_trained or uses_batch:
            raise PrivacyError(f"Expected {name or 'the model'} to be frozen and in evaluation mode: {module}.")
