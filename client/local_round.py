"""One request answered at a site: train privately, or score held-out lesions.

The order is the guarantee: check what can be checked, reserve the budget, only then read examples; record the reply,
only then let it go.
"""

import logging

import torch

from client.data.splits import Role
from client.privacy.declared_size import declared_size
from client.privacy.ledger import StoredReply
from client.privacy.ledger_entries import Purpose, Reserved, Unprotected
from client.site import Site
from client.training.dp_sgd import LocalTraining, train_round
from client.training.noise import NoiseGenerator
from shared_model.config.choices import EvaluationPrivacy, NoiseSource, PrivacyMode, StrategyName
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import config_fingerprint
from shared_model.data.lesions import Lesions
from shared_model.errors import ProtocolError
from shared_model.messages import (
    EvaluateReply,
    PrivacySpent,
    Request,
    TrainReply,
    evaluate_reply_from_bytes,
    evaluate_reply_to_bytes,
    request_digest,
    train_reply_from_bytes,
    train_reply_to_bytes,
)
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.network import named_arrays
from shared_model.network.fusion import FusionNet, build_network
from shared_model.network.scoring import predict
from shared_model.network.state import load_constants, load_trainable, trainable_state
from shared_model.privacy.mechanism import Mechanism
from shared_model.privacy.noise_calibration import evaluation_noise
from shared_model.privacy.patient_histogram import PatientHistogram
from shared_model.privacy.plan import PrivacyPlan
from shared_model.system.seeding import derive_seed
from shared_model.vocabulary import clinical_width

logger = logging.getLogger(__name__)


def train_locally(request: Request, site: Site) -> TrainReply:
    """Train for one round on the site's training patients and return the update.

    Formal guarantee: with ``privacy=patient`` all updates that this site ever returned for the run of
    ``request.config`` together are (``privacy.target_epsilon``, ``privacy.delta``)-differentially private under adding
    or removing one training patient, whatever rounds were asked for, repeated or crashed; over all runs the site's
    policy holds. The other fields of the reply are declared facts, free of data but for the rounded cohort size. A
    request that was answered before gets the same reply.

    Raises:
        PrivacyError: the promise cannot be kept for this cohort, or policy, budget or ledger forbid it.
        ProtocolError: the parameters do not fit the network, or the round lies beyond the last one.
        DataError: the site's data cannot be used.
    """
    config = request.config
    if not 1 <= request.server_round <= config.training.num_rounds:
        raise ProtocolError(f"Expected round {request.server_round} in [1, {config.training.num_rounds}].")
    network = _network(request)
    patients = site.data.patients(Role.TRAIN)
    site.policy.require_patients(len(patients))
    num_declared = declared_size(len(patients), config.privacy.cohort_rounding)
    if config.privacy.mode is PrivacyMode.OFF:
        _note_unprotected(site, config, patients, purpose=Purpose.TRAINING)
        return _train(request, site, network, plan=None, spent=None)
    plan = PrivacyPlan.calibrate(config.privacy, config.training, num_declared)
    site.policy.require_noise(plan.noise_multiplier)
    cohort = site.ledger.cohort(patients)
    release = Reserved(
        purpose=Purpose.TRAINING,
        run=config_fingerprint(config),
        server_round=request.server_round,
        request=request_digest(request),
        cohort=cohort.fingerprint,
        num_patients_declared=num_declared,
        mechanism=plan.mechanism(1),
        delta=plan.delta,
        target_epsilon=plan.target_epsilon,
        max_grad_norm=plan.max_grad_norm,
        noise=_noise_source(config),
    )
    reservation = site.ledger.reserve(release, cohort, site.policy.limits)
    if isinstance(reservation, StoredReply):
        return train_reply_from_bytes(reservation.content)
    spent = PrivacySpent(epsilon=reservation.epsilon, delta=plan.delta, noise_multiplier=plan.noise_multiplier)
    reply = _train(request, site, network, plan=plan, spent=spent)
    site.ledger.commit(reservation, train_reply_to_bytes(reply))
    return reply


def evaluate_locally(request: Request, site: Site) -> EvaluateReply:
    """Return the histograms of the site's test and validation scores.

    Formal guarantee: with ``evaluation.privacy=dp`` all histograms that this site ever returned for the run together
    are (``evaluation.target_epsilon``, ``evaluation.delta``)-differentially private under adding or removing one test
    or validation patient: that is one release, and a repeated request gets the same reply. With
    ``evaluation.privacy=exact`` nothing is guaranteed, and the ledger says so.

    Raises:
        PrivacyError: policy, budget or ledger forbid it.
        ProtocolError: the parameters do not fit the network, or sites are to send nothing.
        RoundError: a score is not finite.
        DataError: the site's data cannot be used.
    """
    evaluation = request.config.evaluation
    if evaluation.privacy is EvaluationPrivacy.NONE:
        raise ProtocolError("Expected no request to evaluate with evaluation.privacy=none.")
    network = _network(request)
    patients = site.data.patients(Role.TEST, Role.VALIDATION)
    if patients:
        site.policy.require_patients(len(patients))
    if evaluation.privacy is EvaluationPrivacy.DP:
        return _evaluate_privately(request, site, network, patients)
    if patients:
        _note_unprotected(site, request.config, patients, purpose=Purpose.EVALUATION)
    lesions = site.data.lesions
    return EvaluateReply(
        site=site.name,
        server_round=request.server_round,
        test=_exact_histogram(network, lesions[Role.TEST], evaluation.num_bins),
        validation=_exact_histogram(network, lesions[Role.VALIDATION], evaluation.num_bins),
    )


def _train(
    request: Request, site: Site, network: FusionNet, *, plan: PrivacyPlan | None, spent: PrivacySpent | None
) -> TrainReply:
    config = request.config
    facts = train_round(
        network,
        site.data.lesions[Role.TRAIN],
        training=LocalTraining(config=config.training, plan=plan, proximal_mu=_proximal_mu(config)),
        noise=_noise(config, site.name, "noise", request.server_round),
    )
    logger.info("Round %d: %s", request.server_round, facts)
    num_patients = len(site.data.patients(Role.TRAIN))
    return TrainReply(
        site=site.name,
        server_round=request.server_round,
        update=named_arrays.difference(trainable_state(network), request.parameters),
        num_patients_declared=declared_size(num_patients, config.privacy.cohort_rounding),
        privacy=spent,
    )


def _evaluate_privately(request: Request, site: Site, network: FusionNet, patients: list[str]) -> EvaluateReply:
    config, evaluation = request.config, request.config.evaluation
    noise_multiplier = evaluation_noise(evaluation)
    site.policy.require_noise(noise_multiplier)
    cohort = site.ledger.cohort(patients)
    release = Reserved(
        purpose=Purpose.EVALUATION,
        run=config_fingerprint(config),
        server_round=request.server_round,
        request=request_digest(request),
        cohort=cohort.fingerprint,
        num_patients_declared=len(patients) // config.privacy.cohort_rounding * config.privacy.cohort_rounding,
        mechanism=Mechanism(noise_multiplier=noise_multiplier, sampling_rate=1.0, num_steps=1),
        delta=evaluation.delta,
        target_epsilon=evaluation.target_epsilon,
        # Every patient weighs 1 in all.
        max_grad_norm=1.0,
        noise=_noise_source(config),
    )
    reservation = site.ledger.reserve(release, cohort, site.policy.limits)
    if isinstance(reservation, StoredReply):
        return evaluate_reply_from_bytes(reservation.content, evaluation=evaluation)
    generator = _noise(config, site.name, "evaluation noise", request.server_round)
    histograms = {
        role: _noisy_histogram(site, network, role, noise_multiplier, generator, bins=evaluation.bins)
        for role in (Role.TEST, Role.VALIDATION)
    }
    reply = EvaluateReply(
        site=site.name,
        server_round=request.server_round,
        test=histograms[Role.TEST],
        validation=histograms[Role.VALIDATION],
    )
    site.ledger.commit(reservation, evaluate_reply_to_bytes(reply))
    return reply


def _exact_histogram(network: FusionNet, lesions: Lesions, num_bins: int) -> ScoreHistogram:
    return ScoreHistogram.from_scores(lesions.labels.numpy(), predict(network, lesions), num_bins)


def _noisy_histogram(
    site: Site, network: FusionNet, role: Role, std: float, generator: NoiseGenerator, *, bins: int
) -> PatientHistogram:
    lesions = site.data.lesions[role]
    exact = PatientHistogram.from_scores(
        lesions.labels.numpy(), predict(network, lesions), lesions.patients.numpy(), bins
    )
    return exact.with_noise(generator.normal((2, bins), std=std, dtype=torch.float64).numpy(), std)


def _note_unprotected(site: Site, config: ExperimentConfig, patients: list[str], *, purpose: Purpose) -> None:
    cohort, rounding = site.ledger.cohort(patients), config.privacy.cohort_rounding
    release = Unprotected(
        purpose=purpose,
        run=config_fingerprint(config),
        cohort=cohort.fingerprint,
        num_patients_declared=len(patients) // rounding * rounding,
    )
    site.ledger.note_unprotected(release, cohort, site.policy.limits)


def _network(request: Request) -> FusionNet:
    config = request.config
    network = build_network(config.model, clinical_width(config.data.features), seed=config.seed)
    try:
        load_constants(network, request.constants)
        load_trainable(network, request.parameters)
    except ValueError as error:
        raise ProtocolError(f"Expected the parameters of the configured network: {error}") from error
    return network


def _noise_source(config: ExperimentConfig) -> NoiseSource:
    return config.privacy.noise or NoiseSource.SECURE


def _noise(config: ExperimentConfig, site: str, purpose: str, server_round: int) -> NoiseGenerator:
    """Return secret randomness, or the reproducible one of a simulation, which protects nobody."""
    if _noise_source(config) is NoiseSource.SECURE:
        return NoiseGenerator.from_system_entropy()
    return NoiseGenerator.from_seed(derive_seed(config.seed, purpose, site, server_round))


def _proximal_mu(config: ExperimentConfig) -> float:
    return config.strategy.proximal_mu if config.strategy.name is StrategyName.FEDPROX else 0.0
