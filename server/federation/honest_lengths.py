"""How long an honest update can be, from what is public: clip, noise, rates and steps, and the size declared.

An honest site adds up clipped gradients, at most ``max_grad_norm`` each, adds Gaussian noise, and divides by the size
that it declares. So an update that is longer than ``HonestLengths.longest`` is, but for one in 10^9, no honest one.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

from shared_model.config.choices import PrivacyMode, StrategyName
from shared_model.config.experiment import ExperimentConfig
from shared_model.network.named_arrays import Parameters, l2_norm
from shared_model.privacy.plan import PrivacyPlan
from shared_model.secure_sum.sum_grid import MOST_PER_DECLARED

FAILURE_PROBABILITY = 1e-9
"""That an honest update is longer than ``longest`` says."""
_ROUNDING = 1e-3
"""More than float32 arithmetic and the sites' margin on the noise add to a length, relatively."""


@lru_cache(maxsize=1024)
def plan_for(config: ExperimentConfig, num_patients_declared: int) -> PrivacyPlan:
    """Return the plan that a site of this size follows.

    Raises:
        PrivacyError: the size is too large for the configuration's delta.
    """
    return PrivacyPlan.calibrate(config, num_patients_declared)


@dataclass(frozen=True, kw_only=True)
class HonestLengths:
    """The lengths (L2 norms) that honest updates of one round can have."""

    config: ExperimentConfig
    num_entries: int
    """Of an update, over all its arrays."""
    parameter_norm: float
    """Length of the parameters that the sites were sent: weight decay moves by a share of it."""

    @classmethod
    def of_round(cls, config: ExperimentConfig, parameters: Parameters) -> "HonestLengths":
        """Return the lengths of updates of ``parameters``."""
        num_entries = sum(array.size for array in parameters.values())
        return cls(config=config, num_entries=num_entries, parameter_norm=l2_norm(parameters))

    @property
    def is_private(self) -> bool:
        """Whether sites clip and add noise; without that nothing is known of their updates."""
        return self.config.privacy.mode is PrivacyMode.PATIENT

    def noise(self, num_patients_declared: int) -> float:
        """Return about how long the noise in a site's update is, as its root mean square; 0 without privacy."""
        if not self.is_private:
            return 0.0
        reach = math.sqrt(sum(weight**2 for weight in self._step_weights()))
        return self._noise_per_entry(num_patients_declared) * reach * math.sqrt(self.num_entries)

    def longest(self, num_patients_declared: int) -> float:
        """Return the length that an honest update exceeds with probability at most ``FAILURE_PROBABILITY``.

        Let eta be the learning rate, C the clipping norm, sigma the noise multiplier, q the sampling rate, n the size
        declared, T the steps of a round, d the entries of an update, p the failure probability. Momentum m lets the
        gradient of step k count c_k = (1 - m^(T-k+1)) / (1 - m) times. The clipped sums move the parameters by at most

            eta C (c_1 + ... + c_T) D / (q n),      D = min(2 n, 2 n q + x/3 + sqrt((x/3)^2 + 4 n q x)),

        where D bounds the patients drawn in a step: 2 n are there at most, and Bernstein's inequality bounds a draw
        with x = log(2 T / p). The noise is Gaussian with deviation eta sigma C sqrt(c_1^2 + ... + c_T^2) / (q n) in
        each entry, and its length is at most so much times sqrt(d) + sqrt(2 x) (Laurent and Massart 2000, Lemma 1).
        Let L be the sum of both. Weight decay w and a proximal pull mu add at most a = eta w (c_1 + ... + c_T) times
        the parameters' length and b = eta mu (c_1 + ... + c_T) times the update's own, so that the result is
        (L + a |parameters|) / (1 - a - b).

        Infinite without privacy, and where a + b >= 1.

        Raises:
            PrivacyError: the size is too large for the configuration's delta.
        """
        if not self.is_private:
            return math.inf
        training = self.config.training
        plan = plan_for(self.config, num_patients_declared)
        weights = self._step_weights()
        doubt = math.log(2 * len(weights) / FAILURE_PROBABILITY)
        drawn = _most_drawn(MOST_PER_DECLARED * num_patients_declared, plan.sampling_rate, doubt)
        scale = training.learning_rate * plan.max_grad_norm / (plan.sampling_rate * num_patients_declared)
        clipped_sums = scale * sum(weights) * drawn
        reach = math.sqrt(sum(weight**2 for weight in weights)) * longest_noise(self.num_entries, doubt)
        noise = self._noise_per_entry(num_patients_declared) * reach
        decay = training.learning_rate * training.weight_decay * sum(weights)
        pull = training.learning_rate * self._proximal_mu() * sum(weights)
        if decay + pull >= 1:
            return math.inf
        return (clipped_sums + noise + decay * self.parameter_norm) / (1 - decay - pull) * (1 + _ROUNDING)

    def _noise_per_entry(self, num_patients_declared: int) -> float:
        """Return the standard deviation of one step's noise in an entry of the update."""
        plan = plan_for(self.config, num_patients_declared)
        step = self.config.training.learning_rate / (plan.sampling_rate * num_patients_declared)
        return step * plan.noise_multiplier * plan.max_grad_norm

    def _step_weights(self) -> list[float]:
        """Return how often the gradient of each step counts, by the steps that momentum carries it on."""
        momentum, num_steps = self.config.training.momentum, self.config.training.local_steps
        return [(1 - momentum ** (num_steps - step)) / (1 - momentum) for step in range(num_steps)]

    def _proximal_mu(self) -> float:
        strategy = self.config.strategy
        return strategy.proximal_mu if strategy.name is StrategyName.FEDPROX else 0.0


def longest_noise(num_entries: int, doubt: float = -math.log(FAILURE_PROBABILITY)) -> float:
    """Return the length that Gaussian noise of deviation 1 in each entry exceeds with probability at most e^-``doubt``.

    It is sqrt(d) + sqrt(2 x) for d entries and a doubt of x (Laurent and Massart 2000, Lemma 1).
    """
    return math.sqrt(num_entries) + math.sqrt(2 * doubt)


def _most_drawn(num_patients: int, sampling_rate: float, doubt: float) -> float:
    """Return how many of ``num_patients`` a draw exceeds with probability at most exp(-``doubt``)."""
    mean = num_patients * sampling_rate
    return min(float(num_patients), mean + doubt / 3 + math.sqrt((doubt / 3) ** 2 + 2 * mean * doubt))
