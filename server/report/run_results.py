"""From a finished training to the results document: the final metrics, every site, and the privacy promised."""

import math

import numpy as np

from server.evaluation.estimates import EstimateSettings, estimate_from_histogram, estimate_from_predictions
from server.evaluation.global_model import GlobalMetrics
from server.evaluation.predictions import Predictions
from server.evaluation.site_histograms import histogram_auroc
from server.federation.checkpoints import SiteState
from server.federation.honest_lengths import plan_for
from server.federation.rounds import FinishedRound, FinishedTraining
from server.report.printed_numbers import format_price
from server.results.document import (
    AbsentSite,
    AurocSource,
    FinalResult,
    PrivacyResult,
    PrivacyUnit,
    ReferenceResult,
    Results,
    RunProvenance,
    SiteResult,
    ThresholdSource,
)
from server.results.evidence import Evidence, Level
from shared_model.config.choices import EvaluationPrivacy, InitialHead, NoiseSource, PrivacyMode
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import RoundError
from shared_model.messages import Histogram
from shared_model.metrics.counts import ClassCounts
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.metrics.roc import auroc_from_counts
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.reference.reference_file import Reference


def results_from_training(
    training: FinishedTraining, config: ExperimentConfig, *, predictions: Predictions | None, provenance: RunProvenance
) -> Results:
    """Return the results document.

    Args:
        training: as it ended.
        config: under which it ran.
        predictions: the server's own test lesions with their final scores; None where it has none.
        provenance: code, versions and times of the run.

    Raises:
        RoundError: the last round was not evaluated.
    """
    metrics = final_metrics(training)
    evidence = _evidence(metrics, config, predictions)
    return Results(
        preset=config.preset,
        seed=config.seed,
        final=_final_result(metrics, config, predictions, evidence),
        evidence=evidence,
        rounds=training.rounds,
        sites=tuple(_site_result(name, site, config, predictions) for name, site in training.last.sites.items()),
        absent=_absent(training.last, config),
        privacy=_privacy_result(config),
        reference=_reference_result(training.reference, config),
        provenance=provenance,
    )


def _absent(last: FinishedRound, config: ExperimentConfig) -> tuple[AbsentSite, ...]:
    return tuple(
        AbsentSite(site=site, reason=last.reasons.get(site, "no valid reply"))
        for site in config.federation.sites
        if site not in last.sites
    )


def final_metrics(training: FinishedTraining) -> GlobalMetrics:
    """Return the metrics after the last round, in which somebody's lesions are always scored.

    Raises:
        RoundError: they were not.
    """
    metrics = training.last.metrics
    if metrics is None:
        raise RoundError("Expected the last round to be evaluated, it was not.")
    return metrics


def score_counts(metrics: GlobalMetrics, predictions: Predictions | None) -> ClassCounts | None:
    """Return the number of benign and malignant test lesions at each score, from which curves are drawn.

    None where a class is missing, or where the sites' counts carry noise: a curve through them would go up and down.
    """
    if predictions is not None:
        return predictions.counts
    if not isinstance(metrics.site_test, ScoreHistogram):
        return None
    counts = metrics.site_test.class_counts
    return counts if counts.has_both_classes else None


def _evidence(metrics: GlobalMetrics, config: ExperimentConfig, predictions: Predictions | None) -> Evidence | None:
    settings = EstimateSettings(
        threshold=metrics.threshold,
        prevalence=config.evaluation.prevalence,
        num_resamples=config.evaluation.bootstrap_resamples,
        seed=config.seed,
    )
    if predictions is not None:
        return estimate_from_predictions(predictions, settings)
    counts = score_counts(metrics, None)
    return None if counts is None else estimate_from_histogram(counts, settings)


def _final_result(
    metrics: GlobalMetrics, config: ExperimentConfig, predictions: Predictions | None, evidence: Evidence | None
) -> FinalResult:
    site_test = metrics.site_test
    by_lesion = None if evidence is None else evidence.level(Level.LESION)

    def interval(name: str) -> ConfidenceInterval | None:
        """Return the interval of an estimate by lesion."""
        estimate = None if by_lesion is None else by_lesion.estimate(name)
        return None if estimate is None else estimate.interval

    site_auroc = None if site_test is None else histogram_auroc(site_test)
    return FinalResult(
        auroc=metrics.auroc,
        auroc_interval=interval("auroc"),
        auroc_source=AurocSource.SITE_HISTOGRAMS if predictions is None else AurocSource.SERVER_HOLDOUT,
        auroc_site_histograms=None if site_auroc is None else site_auroc.value,
        auroc_site_histograms_error_bound=None if site_auroc is None else site_auroc.binning_bound,
        auroc_site_histograms_noise_standard_error=None if site_auroc is None else site_auroc.noise_standard_error,
        sensitivity=metrics.sensitivity,
        sensitivity_interval=interval("sensitivity"),
        specificity=metrics.specificity,
        specificity_interval=interval("specificity"),
        threshold=metrics.threshold,
        threshold_source=_threshold_source(config),
        target_sensitivity=config.evaluation.target_sensitivity,
        num_lesions=_num_lesions(site_test) if predictions is None else len(predictions.labels),
        num_patients=None if predictions is None else len(np.unique(predictions.patients)),
        round=config.training.num_rounds,
    )


def _threshold_source(config: ExperimentConfig) -> ThresholdSource:
    if config.has_training_histogram:
        return ThresholdSource.SITE_TRAINING
    has_public = config.evaluation.public is not None
    return ThresholdSource.PUBLIC_PATIENTS if has_public else ThresholdSource.SITE_VALIDATION


def _site_result(name: str, site: SiteState, config: ExperimentConfig, predictions: Predictions | None) -> SiteResult:
    privacy = site.privacy
    auroc, num_test_lesions = _site_test(name, site, predictions)
    return SiteResult(
        site=name,
        num_patients_declared=site.num_patients_declared,
        epsilon=None if privacy is None else privacy.epsilon,
        delta=None if privacy is None else privacy.delta,
        noise_multiplier=None if privacy is None else privacy.noise_multiplier,
        epsilon_by_colluding=() if privacy is None else (privacy.epsilon, *_prices_by_colluding(config)[1:]),
        auroc=auroc,
        num_test_lesions=num_test_lesions,
    )


def _prices_by_colluding(config: ExperimentConfig) -> tuple[float | None, ...]:
    """Return the price of a whole private run by the number of sites that work with the server; None for infinity."""
    # The size that a site declares changes no price.
    plan = plan_for(config, 1)
    released = plan.released(has_mean=True, num_rounds=plan.num_rounds, has_histogram=True)
    return tuple(price if math.isfinite(price) else None for price in plan.epsilon_by_colluding(released))


def _site_test(name: str, site: SiteState, predictions: Predictions | None) -> tuple[float | None, int | None]:
    """Return AUROC and number of the site's test lesions: of the server's own, where it knows whose they are."""
    homes = None if predictions is None else predictions.attributes.get("site")
    if predictions is not None and homes is not None:
        own = predictions.select(np.array(homes) == name)
        return (None if own.counts is None else auroc_from_counts(own.counts)), len(own.labels)
    found = None if site.test is None else histogram_auroc(site.test)
    return (None if found is None else found.value), _num_lesions(site.test)


def _num_lesions(histogram: Histogram | None) -> int | None:
    """Return what an exact histogram counts; a noisy one counts patients, and not exactly."""
    return histogram.num_lesions if isinstance(histogram, ScoreHistogram) else None


def _privacy_result(config: ExperimentConfig) -> PrivacyResult:
    privacy = config.privacy
    evaluation = _evaluation_statement(config)
    if privacy.mode is PrivacyMode.OFF:
        return PrivacyResult(
            unit=PrivacyUnit.NONE,
            adjacency=None,
            mechanism=None,
            target_epsilon=None,
            noise_source=None,
            secure_sum=False,
            num_noise_shares=1,
            max_colluding=0,
            evaluation=evaluation,
            statement="No privacy guarantee: updates were neither clipped nor noised.",
        )
    federation = config.federation
    statement = _sum_statement(config) if federation.secure_sum else _update_statement(config)
    if privacy.noise is NoiseSource.SEEDED:
        statement = "The noise was reproducible, so nobody was protected: a rehearsal, not a private run."
    return PrivacyResult(
        unit=PrivacyUnit.PATIENT,
        adjacency="add or remove one patient with all lesions",
        mechanism=f"Gaussian mechanism on clipped per-patient {'moments' if config.is_one_shot else 'gradients'}"
        + ("" if config.training.sampling_rate == 1 else ", Poisson-sampled patients"),
        target_epsilon=privacy.target_epsilon,
        noise_source=privacy.noise,
        secure_sum=federation.secure_sum,
        num_noise_shares=federation.min_sites if federation.secure_sum else 1,
        max_colluding=federation.max_colluding if federation.secure_sum else 0,
        evaluation=evaluation,
        statement=statement,
    )


def _update_statement(config: ExperimentConfig) -> str:
    privacy = config.privacy
    return (
        f"What each site sent in training is ({privacy.target_epsilon:g}, {privacy.delta:g})-differentially private "
        "for every patient of its training cohort."
    )


def _sum_statement(config: ExperimentConfig) -> str:
    """Return both guarantees of secure sums: to who sees only sums, and to whoever breaks them."""
    privacy, price = config.privacy, _prices_by_colluding(config)[-1]
    if price is None:
        alone = "nothing bounds what it tells"
    else:
        alone = f"it is ({format_price(price)}, {privacy.delta:g})-differentially private"
    return (
        f"Of what the sites sent in training the server saw only sums over {config.federation.min_sites} or more of "
        f"them, which are ({privacy.target_epsilon:g}, {privacy.delta:g})-differentially private for every patient of "
        "a site's training cohort. To whoever breaks the sums, or works with all other sites of one, what a site sent "
        f"hides a patient behind the site's own share of the noise: {alone}."
    )


def _reference_result(reference: Reference | None, config: ExperimentConfig) -> ReferenceResult | None:
    if reference is None:
        return None
    facts = reference.facts
    return ReferenceResult(
        data_set=facts.data_set,
        sites=facts.sites,
        num_patients=len(facts.patients),
        licence=facts.licence,
        citation=facts.citation,
        file_sha256=reference.file_sha256,
        has_head=config.model.initial_head is InitialHead.SHIPPED,
    )


def _evaluation_statement(config: ExperimentConfig) -> str:
    evaluation = config.evaluation
    if evaluation.privacy is EvaluationPrivacy.NONE:
        return "sites sent nothing about their test and validation patients"
    if evaluation.privacy is EvaluationPrivacy.EXACT:
        return "test and validation counts are exact and not covered by epsilon"
    return (
        f"test and validation counts are ({evaluation.target_epsilon:g}, {evaluation.delta:g})-differentially private "
        "for every test and validation patient"
    )
