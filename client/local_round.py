"""One request answered at a site: train privately, or score held-out lesions; see ``client.local_release``."""

import logging
from collections.abc import Mapping

import numpy as np

from client.data.splits import Role
from client.local_release import (
    is_among,
    load_network,
    noise_for,
    noise_source,
    noised,
    note_unprotected,
    patient_histogram,
    plan_of,
    reserve,
    training_release,
    training_reply,
)
from client.privacy.ledger_entries import Purpose, Reserved
from client.privacy.ledger_reservation import Reservation, StoredReply
from client.secure_sum.release import SumRelease, release_masked, training_sum
from client.site import Site
from client.training.dp_sgd import LocalTraining, clipped_total, train_round
from client.training.noise import NoiseGenerator
from shared_model.config.choices import EvaluationPrivacy, PrivacyMode, StrategyName
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import config_fingerprint
from shared_model.data.lesions import Lesions
from shared_model.errors import ProtocolError
from shared_model.messages import (
    EvaluateReply,
    Request,
    TrainReply,
    evaluate_reply_from_bytes,
    evaluate_reply_to_bytes,
    request_digest,
    train_reply_from_bytes,
    train_reply_to_bytes,
)
from shared_model.messages.sum_parts import evaluation_sum_round
from shared_model.messages.sum_replies import MaskedReply
from shared_model.messages.types import CLASSES
from shared_model.metrics.counts import FloatArray
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.network import named_arrays
from shared_model.network.fusion import FusionNet
from shared_model.network.named_arrays import Parameters
from shared_model.network.scoring import predict
from shared_model.network.state import trainable_state
from shared_model.privacy.mechanism import Mechanism
from shared_model.privacy.noise_calibration import evaluation_noise
from shared_model.privacy.noise_shares import own_share, share
from shared_model.privacy.plan import PrivacyPlan
from shared_model.secure_sum.sum_grid import MOST_EVALUATED

logger = logging.getLogger(__name__)
EVALUATED = (Role.TEST, Role.VALIDATION)
"""Whose scores are counted, in the order of ``shared_model.messages.types.ROLES``."""


def train_locally(request: Request, site: Site) -> TrainReply | MaskedReply:
    """Train for one round on the site's training patients and return the update.

    Formal guarantee: with ``privacy=patient`` all that this site ever returned about training patients for the run of
    ``request.config``, updates and the sums of ``client.local_sums``, is together (``privacy.target_epsilon``,
    ``privacy.delta``)-differentially private under adding or removing one training patient, whatever rounds, parameters
    and constants were asked for, repeated or crashed; over all runs the site's policy holds. Everything else that is
    observable, also whether there is a reply, depends on requests and policy alone. A request that was answered before
    gets the same reply.

    With ``federation.secure_sum`` the reply is the clipped sum, masked (``client.secure_sum.release``).

    Raises:
        PrivacyError: the promise cannot be kept, or policy, budget or ledger forbid it.
        ProtocolError: the parameters do not fit the network, the round lies beyond the last one, or the run trains by a
            sum of moments.
        DataError: the site's files cannot be read.
        TimeLimitError: it took too long; the same request goes on where this one stopped, at no new cost.
    """
    config = request.config
    if not 1 <= request.server_round <= config.training.num_rounds:
        raise ProtocolError(f"Expected round {request.server_round} in [1, {config.training.num_rounds}].")
    if config.is_one_shot:
        raise ProtocolError("Expected no request for an update with strategy=one_shot, which has a sum of moments.")
    network = load_network(request, site)
    if config.privacy.mode is PrivacyMode.OFF:
        members = note_unprotected(site, config, Role.TRAIN, purpose=Purpose.TRAINING)
        training = LocalTraining(config=config.training, plan=None, proximal_mu=_proximal_mu(config))
        return _train(request, site, network, training, members)
    if config.federation.secure_sum:
        return _release_clipped_sum(request, site, network)
    plan = plan_of(request, site)
    release = training_release(request, plan, plan.mechanism(1), max_grad_norm=plan.max_grad_norm)
    granted = reserve(site, release, Role.TRAIN, reply_bytes=_num_bytes(request.parameters))
    if isinstance(granted, StoredReply):
        return train_reply_from_bytes(granted.content)
    training = LocalTraining(
        config=config.training,
        plan=plan,
        proximal_mu=_proximal_mu(config),
        max_magnitude=site.policy.max_magnitude,
    )
    reply = _train(request, site, network, training, granted.members, granted)
    site.ledger.commit(granted, train_reply_to_bytes(reply))
    return reply


def evaluate_locally(request: Request, site: Site) -> EvaluateReply | MaskedReply:
    """Return the histograms of the site's test and validation scores.

    Formal guarantee: with ``evaluation.privacy=dp`` all histograms that this site ever returned for the run together
    are (``evaluation.target_epsilon``, ``evaluation.delta``)-differentially private under adding or removing one test
    or validation patient: that is one release, and a repeated request gets the same reply. Everything else that is
    observable depends on requests and policy alone. With ``evaluation.privacy=exact`` nothing is guaranteed, and the
    ledger says so.

    Raises:
        PrivacyError: policy, budget or ledger forbid it.
        ProtocolError: the parameters do not fit the network, or sites are to send nothing.
        DataError: the site's files cannot be read.
        TimeLimitError: it took too long; the same request goes on where this one stopped, at no new cost.
    """
    evaluation = request.config.evaluation
    if evaluation.privacy is EvaluationPrivacy.NONE:
        raise ProtocolError("Expected no request to evaluate with evaluation.privacy=none.")
    network = load_network(request, site)
    if evaluation.privacy is EvaluationPrivacy.DP:
        return _evaluate_privately(request, site, network)
    members = note_unprotected(site, request.config, *EVALUATED, purpose=Purpose.EVALUATION)
    data, takes_part = site.data, is_among(members, site)
    histograms = {
        role: _exact_histogram(network, data.lesions(role, takes_part, deadline=site.deadline), evaluation.num_bins)
        for role in EVALUATED
    }
    site.deadline.require()
    return EvaluateReply(
        site=site.name,
        server_round=request.server_round,
        test=histograms[Role.TEST],
        validation=histograms[Role.VALIDATION],
    )


def _train(
    request: Request,
    site: Site,
    network: FusionNet,
    training: LocalTraining,
    members: frozenset[bytes],
    granted: Reservation | None = None,
) -> TrainReply:
    """Train on the lesions of ``members``, with the noise of what was granted; nothing raises for what the data are."""
    plan = training.plan
    lesions = site.data.lesions(Role.TRAIN, is_among(members, site), deadline=site.deadline)
    noise = noise_for(granted, request, site.name, "noise", [lesions])
    if plan is not None and len(members) < plan.num_patients_declared:
        logger.error(
            "Alarm: %d training patients, below declared_patients=%d, by which updates are scaled. The guarantee "
            "holds, and the update is weaker than it could be: agree on another size with the coordinator.",
            len(members),
            plan.num_patients_declared,
        )
    facts = train_round(network, lesions, training=training, noise=noise)
    site.deadline.require()
    logger.info("Round %d: %s", request.server_round, facts)
    trained = trainable_state(network)
    # A server may send its parameters in any order.
    update = named_arrays.difference(trained, {name: request.parameters[name] for name in trained})
    return training_reply(request, site, update, plan=plan, granted=granted)


def _release_clipped_sum(request: Request, site: Site, network: FusionNet) -> MaskedReply:
    def total(lesions: Lesions, noise: NoiseGenerator, plan: PrivacyPlan) -> FloatArray:
        """Return the sum of clipped gradients, over all trained arrays in the network's order."""
        training = LocalTraining(config=request.config.training, plan=plan)
        summed, facts = clipped_total(network, lesions, training=training, noise=noise)
        logger.info("Round %d: %s", request.server_round, facts)
        return summed.numpy()

    max_grad_norm = request.config.privacy.max_grad_norm
    if max_grad_norm is None:
        raise ProtocolError("Expected privacy.max_grad_norm for a secure sum.")
    return training_sum(
        request,
        site,
        noise="noise",
        mechanism=lambda plan: plan.mechanism(1),
        sensitivity=max_grad_norm,
        num_values=sum(array.size for array in request.parameters.values()),
        total=total,
    )


def _evaluate_privately(request: Request, site: Site, network: FusionNet) -> EvaluateReply | MaskedReply:
    evaluation = request.config.evaluation
    noise_multiplier = evaluation_noise(evaluation)
    site.policy.require_noise(noise_multiplier)
    release = _evaluation_release(request, noise_multiplier)
    if request.config.federation.secure_sum:
        return _release_evaluation_sum(request, site, network, release)
    # Two roles, two classes, float64.
    granted = reserve(site, release, *EVALUATED, reply_bytes=2 * 2 * 8 * evaluation.bins)
    if isinstance(granted, StoredReply):
        return evaluate_reply_from_bytes(granted.content, evaluation=evaluation)
    data, takes_part = site.data, is_among(granted.members, site)
    lesions = {role: data.lesions(role, takes_part, deadline=site.deadline) for role in EVALUATED}
    noise = noise_for(granted, request, site.name, "evaluation noise", lesions.values())
    histograms = {
        role: noised(patient_histogram(network, part, bins=evaluation.bins), noise_multiplier, noise)
        for role, part in lesions.items()
    }
    site.deadline.require()
    reply = EvaluateReply(
        site=site.name,
        server_round=request.server_round,
        test=histograms[Role.TEST],
        validation=histograms[Role.VALIDATION],
        witness=granted.witness,
        previous_witness=granted.previous_witness,
    )
    site.ledger.commit(granted, evaluate_reply_to_bytes(reply))
    return reply


def _evaluation_release(request: Request, noise_multiplier: float) -> Reserved:
    config, evaluation = request.config, request.config.evaluation
    mechanism = Mechanism(noise_multiplier=noise_multiplier, sampling_rate=1.0, num_steps=1)
    return Reserved(
        purpose=Purpose.EVALUATION,
        run=config_fingerprint(config),
        server_round=request.server_round,
        request=request_digest(request),
        cohort="",
        num_patients_declared=0,
        mechanism=mechanism,
        delta=evaluation.delta,
        target_epsilon=evaluation.target_epsilon,
        # Every patient weighs 1 in all.
        max_grad_norm=1.0,
        noise=noise_source(config),
        own_share=own_share(mechanism, config.num_noise_shares),
    )


def _release_evaluation_sum(request: Request, site: Site, network: FusionNet, entry: Reserved) -> MaskedReply:
    config, bins = request.config, request.config.evaluation.bins
    if request.server_round != evaluation_sum_round(config):
        raise ProtocolError(f"Expected the histograms of a secure sum in round {evaluation_sum_round(config)}.")

    def total(lesions: Mapping[Role, Lesions], _: NoiseGenerator) -> FloatArray:
        """Return the exact counts, by role and class."""
        histograms = [patient_histogram(network, lesions[role], bins=bins) for role in EVALUATED]
        return np.concatenate([getattr(histogram, label) for histogram in histograms for label in CLASSES])

    release = SumRelease(
        entry=entry,
        share_std=share(entry.mechanism.noise_multiplier, config.num_noise_shares),
        noise="evaluation noise",
        most_patients=lambda _: MOST_EVALUATED,
        num_values=len(EVALUATED) * len(CLASSES) * bins,
        roles=EVALUATED,
        total=total,
        plan=None,
    )
    return release_masked(request, site, release)


def _num_bytes(arrays: Parameters) -> int:
    return sum(array.nbytes for array in arrays.values())


def _exact_histogram(network: FusionNet, lesions: Lesions, num_bins: int) -> ScoreHistogram:
    return ScoreHistogram.from_scores(lesions.labels.numpy(), predict(network, lesions, not_finite=0.0), num_bins)


def _proximal_mu(config: ExperimentConfig) -> float:
    return config.strategy.proximal_mu if config.strategy.name is StrategyName.FEDPROX else 0.0
