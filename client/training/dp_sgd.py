"""One round of differentially private training at a site, with the patient as the privacy unit.

A step draws patients, takes each one's gradient of the mean loss over all of that patient's lesions, clips it, adds
the clipped gradients up and adds Gaussian noise once (Abadi et al. 2016, Alg. 1, with a patient in place of an
example). However many lesions a patient has, the sum moves by at most ``max_grad_norm``.
"""

import dataclasses
from collections.abc import Callable

import torch
from opacus.optimizers import DPOptimizerFastGradientClipping
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from client.training.clipped_gradients import Gradients, trainable_parameters
from client.training.gradient_methods import GradientMethod, GradientSource, choose_gradient_method
from client.training.noise import NoiseGenerator
from client.training.patients import LesionsByPatient
from client.training.plain_sgd import PlainSGD
from shared_model.config.site_sections import TrainingConfig
from shared_model.data.lesions import Lesions
from shared_model.errors import PrivacyError
from shared_model.privacy.plan import PrivacyPlan

ROUNDING_MARGIN = 1e-4
"""By how much more noise is added than planned. The last bit of a patient's float32 pass may depend on how many other
patients torch computes beside it, so that removing one patient moves the others' sum a little too: by less than 1e-5
clipping norms in all that was tried (``tests/client/training/test_clipped_gradients.py``)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """What one round does at a site.

    Raises:
        PrivacyError: the plan was made for another sampling rate or number of steps than ``config`` has.
        ValueError: ``proximal_mu`` is negative.
    """

    config: TrainingConfig
    plan: PrivacyPlan | None
    """None trains without clipping and noise: for comparison only."""
    proximal_mu: float = 0.0
    """Pull towards the parameters at the start of the round (Li et al. 2020, Eq. 2)."""
    max_magnitude: float | None = None
    """Parameters are held within +- this between private steps; null sets no bound."""
    gradient_method: GradientMethod | None = None
    """How to compute the clipped sum, to compare the methods; None chooses the fastest that works for the model."""

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


class PatientOptimizer(DPOptimizerFastGradientClipping):  # type: ignore[misc]
    """Opacus' optimiser of fast gradient clipping, which is given a clipped sum and never sees a patient's gradient.

    Opacus scales, calls the step's hook and steps. The noise comes from a keystream, and the scale is the public
    ``sampling_rate * num_patients_declared``, not the number of patients drawn, which is secret.
    """

    def __init__(self, optimizer: PlainSGD, *, plan: PrivacyPlan, noise: NoiseGenerator) -> None:
        super().__init__(
            optimizer,
            noise_multiplier=plan.noise_multiplier,
            max_grad_norm=plan.max_grad_norm,
            expected_batch_size=plan.sampling_rate * plan.num_patients_declared,
        )
        self._noise = noise
        self._clipped_sum: Gradients = ()

    def release(self, clipped_sum: Gradients) -> None:
        """Add noise to the sum over the drawn patients, zero where none was drawn, and take the step."""
        self._clipped_sum = clipped_sum
        self.step()
        self.zero_grad(set_to_none=True)
        self._clipped_sum = ()

    def accumulate(self) -> None:
        """Take the clipped sum as it is, float64, where Opacus would take ``grad``, which cannot be."""
        for parameter, values in zip(self.params, self._clipped_sum, strict=True):
            parameter.summed_grad = values

    def add_noise(self) -> None:
        """Write sum plus noise to ``grad``, added in float64 and rounded once.

        Rounding the noise before adding would leave traces of the sum in the low bits (Mironov 2012).
        """
        std = self.noise_multiplier * self.max_grad_norm * (1 + ROUNDING_MARGIN)
        for parameter in self.params:
            noise = self._noise.normal(parameter.shape, std=std, dtype=torch.float64).to(parameter.device)
            parameter.grad = (parameter.summed_grad + noise).to(parameter.dtype)


def draw_patients(by_patient: LesionsByPatient, sampling_rate: float, noise: NoiseGenerator) -> Tensor:
    """Return the indices of the patients of one step: each with probability ``sampling_rate``, independently."""
    count = len(by_patient.sizes)
    if sampling_rate == 1:
        return torch.arange(count)
    return torch.nonzero(noise.uniform(count) < sampling_rate).squeeze(1)


def train_round(
    model: nn.Module,
    lesions: Lesions,
    *,
    training: LocalTraining,
    noise: NoiseGenerator,
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

    Raises:
        PrivacyError: the model couples patients by batch statistics.
        RuntimeError: the model does not work with the gradient method that ``training`` asks for.
        ValueError: the model has no trainable parameter.
    """
    config, plan, by_patient = training.config, training.plan, LesionsByPatient.from_lesions(lesions)
    parameters = trainable_parameters(model)
    sgd = PlainSGD(parameters, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)
    pull = _proximal_pull(parameters, training.proximal_mu)
    optimizer = None
    if plan is not None:
        _require_independent_patients(model)
        optimizer = PatientOptimizer(sgd, plan=plan, noise=noise)
        optimizer.attach_step_hook(lambda _: pull())
    source = _source(model, by_patient, training)
    num_draws = num_rejected = 0
    for _ in range(config.local_steps):
        drawn = draw_patients(by_patient, config.sampling_rate, noise).to(lesions.labels.device)
        usable = drawn[by_patient.is_finite[drawn]]
        if plan is None or optimizer is None:
            total, rejected = source.plain_sum(usable)
            for parameter, values in zip(parameters, total, strict=True):
                parameter.grad = (values / max(1, len(drawn))).to(parameter.dtype)
            pull()
            sgd.step()
        else:
            total, rejected = source.clipped_sum(usable, plan.max_grad_norm)
            optimizer.release(total)
            _hold_within(parameters, training.max_magnitude)
        num_draws += len(drawn)
        num_rejected += len(drawn) - len(usable) + rejected
    sgd.zero_grad(set_to_none=True)
    return RoundFacts(num_steps=config.local_steps, num_draws=num_draws, num_rejected_draws=num_rejected)


def clipped_total(
    model: nn.Module, lesions: Lesions, *, training: LocalTraining, noise: NoiseGenerator
) -> tuple[Tensor, RoundFacts]:
    """Return the clipped sum of one step, without noise, and do not move ``model``; for a step that others finish.

    Args:
        model: as in ``train_round``.
        lesions: the cohort, on the model's device.
        training: with a plan of one step a round.
        noise: draws the patients.

    Returns:
        The sum ``(D,)``, float64, over all trainable parameters in the order of the module; it moves by at most
        ``max_grad_norm`` with a patient.

    Raises:
        PrivacyError: the model couples patients by batch statistics.
        ValueError: there is no plan, it has several steps, or the model has no trainable parameter.
    """
    config, plan = training.config, training.plan
    if plan is None or plan.steps_per_round != 1:
        raise ValueError("Expected a privacy plan of one step a round.")
    _require_independent_patients(model)
    by_patient = LesionsByPatient.from_lesions(lesions)
    source = _source(model, by_patient, training)
    drawn = draw_patients(by_patient, config.sampling_rate, noise).to(lesions.labels.device)
    usable = drawn[by_patient.is_finite[drawn]]
    total, rejected = source.clipped_sum(usable, plan.max_grad_norm)
    facts = RoundFacts(num_steps=1, num_draws=len(drawn), num_rejected_draws=len(drawn) - len(usable) + rejected)
    return torch.cat([values.flatten() for values in total]).cpu(), facts


def _source(model: nn.Module, by_patient: LesionsByPatient, training: LocalTraining) -> GradientSource:
    method = training.gradient_method
    if method is None and training.plan is None:
        # Without clipping, gradients by patient are needed only where one is not finite.
        method = GradientMethod.PATIENT
    elif method is None:
        method = choose_gradient_method(model, by_patient, training.config)
    return GradientSource(model=model, by_patient=by_patient, config=training.config, method=method)


def _hold_within(parameters: list[nn.Parameter], max_magnitude: float | None) -> None:
    """Clamp the parameters: they have their noise already, so this costs nothing."""
    if max_magnitude is not None:
        with torch.no_grad():
            for parameter in parameters:
                parameter.nan_to_num_(0.0).clamp_(-max_magnitude, max_magnitude)


def _proximal_pull(parameters: list[nn.Parameter], proximal_mu: float) -> Callable[[], None]:
    start = [parameter.detach().clone() for parameter in parameters]

    def pull() -> None:
        """Add the proximal term's gradient, ``proximal_mu`` times the distance from the start."""
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
