"""Sums over training patients: of their features before training, and of their scores, as a histogram, after it.

With ``strategy=one_shot`` training itself is one, of their moments. Each is one release with noise of its own, reserved
and priced together with the rest of the run: all are about the same patients. See ``client.local_release`` for the
order of steps.
"""

from collections.abc import Callable

import numpy as np

from client.data.splits import Role
from client.local_release import (
    is_among,
    load_network,
    noise_for,
    noised,
    note_unprotected,
    patient_histogram,
    plan_of,
    reserve,
    training_release,
    training_reply,
)
from client.privacy.ledger_entries import Purpose
from client.privacy.ledger_reservation import StoredReply
from client.secure_sum.release import training_sum
from client.site import Site
from client.training.feature_sum import feature_sum, noised_feature_sum
from client.training.moment_sum import moment_sum, noised_moment_sum
from client.training.noise import NoiseGenerator
from shared_model.config.choices import PrivacyMode
from shared_model.data.lesions import Lesions
from shared_model.errors import ProtocolError
from shared_model.messages import Request, TrainReply, train_reply_from_bytes, train_reply_to_bytes
from shared_model.messages.sum_replies import MaskedReply
from shared_model.messages.types import CLASSES, FEATURE_SUM, MOMENT_SUM
from shared_model.metrics.counts import FloatArray
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.named_arrays import Parameters
from shared_model.privacy.mechanism import Mechanism
from shared_model.privacy.patient_histogram import PatientHistogram
from shared_model.privacy.patient_moments import num_moments
from shared_model.privacy.plan import PrivacyPlan

_FLOAT32_BYTES = 4
_SENSITIVITY = 1.0
"""A patient moves each of the sums by at most so much."""
_Release = Callable[[Lesions, float | None, NoiseGenerator], Parameters]
"""From lesions, noise multiplier (None adds no noise) and noise to the arrays that leave."""
_Total = Callable[[Lesions], FloatArray]
"""From lesions to the exact sum, whose arrays stand one after another."""


def sum_features_locally(request: Request, site: Site) -> TrainReply | MaskedReply:
    """Return the noised sum of the training patients' mean feature vectors; see ``client.training.feature_sum``.

    Formal guarantee: with the updates and the histogram of the same run it is (``privacy.target_epsilon``,
    ``privacy.delta``)-differentially private, as ``client.local_round.train_locally`` says.

    Raises:
        PrivacyError, ProtocolError, DataError, TimeLimitError: as ``train_locally``.
    """
    config = request.config
    _require_part(request, 0, "a mean of features", is_part=config.has_private_mean)
    load_network(request, site)

    def release(lesions: Lesions, std: float | None, noise: NoiseGenerator) -> Parameters:
        """Return the sum, with noise where there is any."""
        total = feature_sum(lesions).float() if std is None else noised_feature_sum(lesions, std, noise)
        return {FEATURE_SUM: total.numpy()}

    def total(lesions: Lesions) -> FloatArray:
        """Return the exact sum."""
        return feature_sum(lesions).numpy()

    return _answer(request, site, release, total, "mean noise", num_entries=FEATURE_WIDTH)


def sum_moments_locally(request: Request, site: Site) -> TrainReply | MaskedReply:
    """Return the noised sum of the training patients' moments; see ``client.training.moment_sum``.

    Formal guarantee: as ``sum_features_locally``, with this sum in the place of the updates.

    Raises:
        PrivacyError, ProtocolError, DataError, TimeLimitError: as ``train_locally``.
    """
    _require_part(request, 1, "a sum of moments", is_part=request.config.is_one_shot)
    network = load_network(request, site)

    def release(lesions: Lesions, std: float | None, noise: NoiseGenerator) -> Parameters:
        """Return the sum, with noise where there is any."""
        if std is None:
            return {MOMENT_SUM: moment_sum(network, lesions).float().numpy()}
        return {MOMENT_SUM: noised_moment_sum(network, lesions, std, noise).numpy()}

    def total(lesions: Lesions) -> FloatArray:
        """Return the exact sum."""
        return moment_sum(network, lesions).numpy()

    num_entries = num_moments(network.linear_head.in_features)
    return _answer(request, site, release, total, "moment noise", num_entries=num_entries)


def count_scores_locally(request: Request, site: Site) -> TrainReply | MaskedReply:
    """Return the noised histogram of the training patients' scores, in which every patient counts once.

    Formal guarantee: as ``sum_features_locally``.

    Raises:
        PrivacyError, ProtocolError, DataError, TimeLimitError: as ``train_locally``.
    """
    config, bins = request.config, request.config.histogram_bins
    last = config.training.num_rounds
    _require_part(request, last + 1, "a histogram of scores", is_part=config.has_training_histogram)
    network = load_network(request, site)

    def release(lesions: Lesions, std: float | None, noise: NoiseGenerator) -> Parameters:
        """Return the counts, with noise where there is any."""
        counts = patient_histogram(network, lesions, bins=bins)
        return _arrays(counts if std is None else noised(counts, std, noise))

    def total(lesions: Lesions) -> FloatArray:
        """Return the exact counts."""
        counts = patient_histogram(network, lesions, bins=bins)
        return np.concatenate([getattr(counts, label) for label in CLASSES])

    return _answer(request, site, release, total, "histogram noise", num_entries=len(CLASSES) * bins)


def _require_part(request: Request, server_round: int, what: str, *, is_part: bool) -> None:
    if not is_part:
        raise ProtocolError(f"Expected no request for {what}, which is no part of this run's plan.")
    if request.server_round != server_round:
        raise ProtocolError(f"Expected {what} to be asked for in round {server_round}, got {request.server_round}.")


def _answer(
    request: Request, site: Site, release: _Release, total: _Total, purpose: str, *, num_entries: int
) -> TrainReply | MaskedReply:
    if request.config.privacy.mode is PrivacyMode.OFF:
        members = note_unprotected(site, request.config, Role.TRAIN, purpose=Purpose.TRAINING)
        lesions = site.data.lesions(Role.TRAIN, is_among(members, site), deadline=site.deadline)
        arrays = release(lesions, None, NoiseGenerator.from_system_entropy())
        site.deadline.require()
        return training_reply(request, site, arrays, plan=None, granted=None)
    if request.config.federation.secure_sum:
        return training_sum(
            request,
            site,
            noise=purpose,
            mechanism=lambda plan: _mechanism(plan, request.server_round),
            sensitivity=_SENSITIVITY,
            num_values=num_entries,
            total=lambda lesions, *_: total(lesions),
        )
    plan = plan_of(request, site)
    mechanism = _mechanism(plan, request.server_round)
    entry = training_release(request, plan, mechanism, max_grad_norm=_SENSITIVITY)
    granted = reserve(site, entry, Role.TRAIN, reply_bytes=_FLOAT32_BYTES * num_entries)
    if isinstance(granted, StoredReply):
        return train_reply_from_bytes(granted.content)
    lesions = site.data.lesions(Role.TRAIN, is_among(granted.members, site), deadline=site.deadline)
    noise = noise_for(granted, request, site.name, purpose, [lesions])
    arrays = release(lesions, mechanism.noise_multiplier, noise)
    site.deadline.require()
    reply = training_reply(request, site, arrays, plan=plan, granted=granted)
    site.ledger.commit(granted, train_reply_to_bytes(reply))
    return reply


def _mechanism(plan: PrivacyPlan, server_round: int) -> Mechanism:
    last = plan.num_rounds
    (mechanism,) = plan.released(
        has_mean=server_round == 0, num_rounds=int(1 <= server_round <= last), has_histogram=server_round > last
    )
    return mechanism


def _arrays(histogram: PatientHistogram) -> Parameters:
    return {label: getattr(histogram, label).astype(np.float32) for label in CLASSES}
