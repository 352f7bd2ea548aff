"""One request answered at a site: train privately, or score held-out lesions."""

import logging

from client.noise import NoiseGenerator
from client.private_training import LocalTraining, train_round
from client.roles import Role
from client.site import SiteData
from shared_model import parameters as named
from shared_model.accounting import PrivacyPlan, declared_size
from shared_model.config import ExperimentConfig, NoiseSource, PrivacyMode, StrategyName
from shared_model.errors import ProtocolError
from shared_model.evaluation import histogram_of
from shared_model.fusion import FusionNet, build_network, load_constants, load_trainable, trainable_state
from shared_model.mammography import clinical_width
from shared_model.messages import EvaluateReply, PrivacySpent, Request, TrainReply
from shared_model.seeding import derive_seed

logger = logging.getLogger(__name__)


def train_locally(request: Request, data: SiteData) -> TrainReply:
    """Train for one round on the site's training patients and return the update.

    Formal guarantee: with ``privacy=patient`` the updates of rounds 1 to ``request.server_round`` together are
    (``privacy.epsilon``, ``privacy.delta``)-differentially private under adding or removing one training patient; the
    other fields of the reply are declared facts, free of data but for the rounded cohort size.

    Raises:
        PrivacyError: the promise cannot be kept for this cohort.
        ProtocolError: the parameters do not fit the network, or the round lies beyond the last one.
    """
    config = request.config
    if not 1 <= request.server_round <= config.training.num_rounds:
        raise ProtocolError(f"Expected round {request.server_round} in [1, {config.training.num_rounds}].")
    lesions = data.lesions[Role.TRAIN]
    num_declared = declared_size(lesions.num_patients, config.privacy.cohort_rounding)
    plan = None
    if config.privacy.mode is PrivacyMode.PATIENT:
        plan = PrivacyPlan.calibrate(config.privacy, config.training, num_declared)
    network = _network(request)
    facts = train_round(
        network,
        lesions,
        training=LocalTraining(config=config.training, plan=plan, proximal_mu=_proximal_mu(config)),
        noise=_noise(config, data.site, request.server_round),
    )
    logger.info("Round %d: %s", request.server_round, facts)
    return TrainReply(
        site=data.site,
        server_round=request.server_round,
        update=named.difference(trainable_state(network), request.parameters),
        num_patients_declared=num_declared,
        privacy=None if plan is None else _spent(plan, request.server_round),
    )


def evaluate_locally(request: Request, data: SiteData) -> EvaluateReply:
    """Return the histograms of the site's test and validation scores.

    Raises:
        ProtocolError: the parameters do not fit the network.
        RoundError: a score is not finite.
    """
    network = _network(request)
    num_bins = request.config.evaluation.num_bins
    return EvaluateReply(
        site=data.site,
        server_round=request.server_round,
        test=histogram_of(network, data.lesions[Role.TEST], num_bins),
        validation=histogram_of(network, data.lesions[Role.VALIDATION], num_bins),
    )


def _network(request: Request) -> FusionNet:
    config = request.config
    network = build_network(config.model, clinical_width(config.data.features), seed=config.seed)
    try:
        load_constants(network, request.constants)
        load_trainable(network, request.parameters)
    except ValueError as error:
        raise ProtocolError(f"Expected the parameters of the configured network: {error}") from error
    return network


def _noise(config: ExperimentConfig, site: str, server_round: int) -> NoiseGenerator:
    """Return secret randomness, or the reproducible one of a simulation, which without privacy protects nobody."""
    if config.privacy.noise is NoiseSource.SECURE:
        return NoiseGenerator.secure()
    return NoiseGenerator.seeded(derive_seed(config.seed, "noise", site, server_round))


def _proximal_mu(config: ExperimentConfig) -> float:
    return config.strategy.proximal_mu if config.strategy.name is StrategyName.FEDPROX else 0.0


def _spent(plan: PrivacyPlan, server_round: int) -> PrivacySpent:
    return PrivacySpent(
        epsilon=plan.epsilon_after(server_round), delta=plan.delta, noise_multiplier=plan.noise_multiplier
    )
