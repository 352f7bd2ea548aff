"""Requests and replies: what server and sites send to each other, as typed values."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_model.config.experiment import ExperimentConfig
from shared_model.messages.sum_parts import SumParts
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.network.named_arrays import Parameters
from shared_model.privacy.patient_histogram import PatientHistogram

ROLES = ("test", "validation")
"""Whose scores an evaluation counts."""
CLASSES = ("negatives", "positives")
"""The two arrays of a histogram: benign lesions, malignant lesions."""
Histogram = ScoreHistogram | PatientHistogram
"""Exact counts of lesions, or counts of patients with noise."""


MEAN, MOMENTS, SCORES = "train.mean", "train.moments", "train.scores"
"""Flower's types of further messages about training patients: the sum of their features, before the first round of
training; the sum of their moments, which is all the training there is with ``strategy=one_shot``; and the histogram of
their scores, after the last round. Replies are of the kind of ``TrainReply``."""
FEATURE_SUM, MOMENT_SUM = "sum", "moments"
"""The one array of a reply to ``MEAN``, and of one to ``MOMENTS``; those of a reply to ``SCORES`` are ``CLASSES``."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the server sends to every site, to train or to evaluate."""

    config: ExperimentConfig
    server_round: int
    """Rounds of training count from 1. The mean of features is asked for in round 0, the histogram of scores in the
    round after the last."""
    parameters: Parameters
    """The trainable parameters."""
    constants: Parameters
    """Public constants of the network, frozen during training."""
    sum_parts: SumParts | None = None
    """With ``federation.secure_sum``."""


@dataclass(frozen=True, kw_only=True)
class PrivacySpent:
    """The public price of a run: what it costs a patient who takes part in all of it.

    No patient decides over it; what each has spent over all runs stays at the site.
    """

    epsilon: float
    """Of the run's releases so far, this one included."""
    delta: float
    noise_multiplier: float


@dataclass(frozen=True, kw_only=True)
class TrainReply:
    """What a site sends about its training patients, and the facts that it declares."""

    site: str
    server_round: int
    update: Parameters
    """What training changed; or the sums that ``MEAN``, ``MOMENTS`` or ``SCORES`` asked for."""
    num_patients_declared: int
    """A constant of the site's policy, and not a count."""
    privacy: PrivacySpent | None
    """None when the site trained without privacy."""
    witness: str = ""
    """Keyed digest of the site's ledger after the reservation for this reply; empty without privacy."""
    previous_witness: str = ""
    """The witness of the reservation before it; a ledger that was put back to an older state repeats one."""


@dataclass(frozen=True, kw_only=True)
class EvaluateReply:
    """A site's score histograms, one for each role: exact counts of lesions, or noisy counts of patients."""

    site: str
    server_round: int
    test: Histogram
    validation: Histogram
    witness: str = ""
    """As in ``TrainReply``; empty for exact histograms."""
    previous_witness: str = ""

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the counts of each role and class, by names such as ``test-negatives``."""
        return {f"{role}-{label}": getattr(getattr(self, role), label) for role in ROLES for label in CLASSES}
