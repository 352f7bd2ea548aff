"""What all answers of a site have in common: check, reserve, look at patients, record, reply.

The order is the guarantee (the law of ``docs/privacy.md``): check what configuration and parameters alone can show;
reserve the budget, which public facts alone decide; only then look at patients; record the reply; only then let it go.
Nothing that depends on a patient decides before the reservation, and nothing raises for it after.
"""

import logging
from collections.abc import Callable, Iterable

import torch

from client.data.splits import Role
from client.privacy.declared_size import rounded_down
from client.privacy.ledger_entries import Purpose, Reserved, Unprotected
from client.privacy.ledger_reservation import Reservation, StoredReply
from client.site import Site
from client.training.noise import NoiseGenerator
from shared_model.config.choices import NoiseSource
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import config_fingerprint
from shared_model.data.lesions import Lesions
from shared_model.errors import ProtocolError
from shared_model.messages import PrivacySpent, Request, TrainReply, request_digest
from shared_model.network.fusion import FusionNet, build_network
from shared_model.network.named_arrays import Parameters
from shared_model.network.scoring import predict
from shared_model.network.state import load_constants, load_trainable
from shared_model.privacy.mechanism import Mechanism
from shared_model.privacy.patient_histogram import PatientHistogram
from shared_model.privacy.plan import PrivacyPlan
from shared_model.system.seeding import derive_seed
from shared_model.vocabulary import clinical_width

logger = logging.getLogger(__name__)


def load_network(request: Request, site: Site) -> FusionNet:
    """Return the configured network with the parameters and constants of the request, whose size is bounded.

    It stops, with ``TimeLimitError``, at the first pass after the site's deadline; a reply made without a pass is
    checked before it leaves, so that nothing but time decides.

    Raises:
        ProtocolError: names or shapes are not those of the network.
        PolicyError: an entry is too large.
    """
    config = request.config
    network = build_network(config.model, clinical_width(config.data.features), seed=config.seed)
    try:
        load_constants(network, request.constants)
        load_trainable(network, request.parameters)
    except ValueError as error:
        raise ProtocolError(f"Expected the parameters of the configured network: {error}") from error
    site.policy.require_magnitude(request.parameters)
    site.policy.require_magnitude(request.constants)
    network.register_forward_pre_hook(site.deadline.require)
    return network


def plan_of(request: Request, site: Site) -> PrivacyPlan:
    """Return the plan of the run for the size that the site declares, whose every part has the noise that policy asks.

    All parts are checked with each: a run that is refused its last one has spent its budget for nothing.

    Raises:
        PrivacyError: the size is too large for the configuration's delta.
        PolicyError: a part has too little noise, or the whole run with the site's own shares of it alone.
    """
    plan = PrivacyPlan.calibrate(request.config, site.num_declared())
    for noise_multiplier in (plan.noise_multiplier, plan.mean_noise_multiplier, plan.histogram_noise_multiplier):
        if noise_multiplier is not None:
            site.policy.require_noise(noise_multiplier)
    site.policy.require_alone(plan)
    return plan


def training_release(request: Request, plan: PrivacyPlan, mechanism: Mechanism, *, max_grad_norm: float) -> Reserved:
    """Return the ledger's entry of one release about training patients; its cohort is filled in by the ledger.

    Args:
        request: that is to be answered.
        plan: of the run.
        mechanism: of this release alone.
        max_grad_norm: by how much a patient moves what is released, at most, before its noise.
    """
    return Reserved(
        purpose=Purpose.TRAINING,
        run=config_fingerprint(request.config),
        server_round=request.server_round,
        request=request_digest(request),
        cohort="",
        num_patients_declared=plan.num_patients_declared,
        mechanism=mechanism,
        delta=plan.delta,
        target_epsilon=plan.target_epsilon,
        max_grad_norm=max_grad_norm,
        noise=noise_source(request.config),
        own_share=plan.own_share(mechanism),
    )


def reserve(site: Site, release: Reserved, *roles: Role, reply_bytes: int) -> Reservation | StoredReply:
    """Reserve ``release`` about the patients of ``roles``, or return the reply that the same request got before."""
    cohort = site.ledger.cohort(site.data.patients(*roles))
    return site.ledger.reserve(release, cohort, site.policy.limits, reply_bytes=reply_bytes)


def note_unprotected(site: Site, config: ExperimentConfig, *roles: Role, purpose: Purpose) -> frozenset[bytes]:
    """Record that everything about the patients of ``roles`` is about to leave; return who of them take part."""
    patients = site.data.patients(*roles)
    release = Unprotected(
        purpose=purpose,
        run=config_fingerprint(config),
        cohort="",
        num_patients_declared=rounded_down(len(patients), config.privacy.cohort_rounding),
    )
    return site.ledger.note_unprotected(release, site.ledger.cohort(patients), site.policy.limits)


def is_among(members: frozenset[bytes], site: Site) -> Callable[[str], bool]:
    """Return what tells whether a patient is one of ``members``."""
    return lambda patient: site.ledger.pseudonym(patient) in members


def noise_source(config: ExperimentConfig) -> NoiseSource:
    """Return where the run's noise comes from."""
    return config.privacy.noise or NoiseSource.SECURE


def noise_for(
    granted: Reservation | None, request: Request, site: str, purpose: str, lesions: Iterable[Lesions]
) -> NoiseGenerator:
    """Return the secret randomness of a reservation, or the reproducible one of a simulation, which protects nobody.

    Training without privacy draws none.
    """
    if granted is None:
        return NoiseGenerator.from_system_entropy()
    if noise_source(request.config) is NoiseSource.SECURE:
        return NoiseGenerator.bound_to(granted.noise_key, (part.to_bytes() for part in lesions))
    return NoiseGenerator.from_seed(derive_seed(request.config.seed, purpose, site, request.server_round))


def patient_histogram(network: FusionNet, lesions: Lesions, *, bins: int) -> PatientHistogram:
    """Return the exact histogram of the scores of ``lesions``; a score that is not finite counts as 0."""
    scores = predict(network, lesions, not_finite=0.0)
    return PatientHistogram.from_scores(lesions.labels.numpy(), scores, lesions.patients.numpy(), bins)


def noised(exact: PatientHistogram, std: float, noise: NoiseGenerator) -> PatientHistogram:
    """Return ``exact`` with noise of standard deviation ``std`` on every count."""
    return exact.with_noise(noise.normal((2, exact.num_bins), std=std, dtype=torch.float64).numpy(), std)


def training_reply(
    request: Request, site: Site, update: Parameters, *, plan: PrivacyPlan | None, granted: Reservation | None
) -> TrainReply:
    """Return the reply that carries ``update``, with what the ledger says beside it; without privacy both are None."""
    spent = None
    if plan is not None and granted is not None:
        spent = PrivacySpent(epsilon=granted.epsilon, delta=plan.delta, noise_multiplier=plan.noise_multiplier)
    return TrainReply(
        site=site.name,
        server_round=request.server_round,
        update=update,
        num_patients_declared=site.num_declared() if plan is None else plan.num_patients_declared,
        privacy=spent,
        witness="" if granted is None else granted.witness,
        previous_witness="" if granted is None else granted.previous_witness,
    )
