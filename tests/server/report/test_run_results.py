"""From a finished training to the results document: whose figures they are, and what was promised to patients."""

import dataclasses
import hashlib
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from server.evaluation.predictions import Predictions
from server.evaluation.site_histograms import histogram_auroc, sum_histograms
from server.federation.rounds import federate
from server.report.run_results import final_metrics, results_from_training, score_counts
from server.results.document import AurocSource, PrivacyUnit, RunProvenance, ThresholdSource
from server.results.evidence import Level
from shared_model.data.lesions import Lesions
from shared_model.errors import RoundError
from shared_model.privacy.plan import PrivacyPlan
from shared_model.reference.reference_file import SHIPPED_FILE
from tests.reference_prices import gaussian_epsilon
from tests.scripted_federation import NUM_PATIENTS, SITES, SiteGrid

PROVENANCE = RunProvenance(
    source_fingerprint="a" * 64,
    config_fingerprint="b" * 64,
    versions={"flwr": "1"},
    python="3.11",
    platform="Linux",
    started="2026-01-01T00:00:00+00:00",
    finished="2026-01-01T00:01:00+00:00",
    seconds=60.0,
)


def train(config, grid):
    return federate(grid, config, on_round=lambda finished: None)


def results_of(training, config, predictions=None):
    return results_from_training(training, config, predictions=predictions, provenance=PROVENANCE)


def predictions_of(federation, training):
    lesions = Lesions.load(federation.holdout)
    return Predictions.from_lesions(lesions, training.last.metrics.scores, {})


@pytest.fixture(scope="module")
def with_holdout(shared_federation):
    config = shared_federation.config(run_dir=shared_federation.folder / "with_holdout")
    training = train(config, SiteGrid())
    predictions = predictions_of(shared_federation, training)
    return results_of(training, config, predictions), training, predictions


@pytest.fixture(scope="module")
def with_histograms(shared_federation):
    config = shared_federation.config(has_lesions=False, run_dir=shared_federation.folder / "with_histograms")
    training = train(config, SiteGrid())
    return results_of(training, config), training


class TestFinal:
    def test_of_the_server_s_own_lesions(self, with_holdout):
        results, training, predictions = with_holdout
        final = results.final
        assert final.auroc == pytest.approx(roc_auc_score(predictions.labels, predictions.scores))
        assert final.auroc_source is AurocSource.SERVER_HOLDOUT
        assert final.threshold_source is ThresholdSource.PUBLIC_PATIENTS
        assert (final.num_lesions, final.num_patients, final.round) == (120, 60, 4)
        assert final.threshold == training.last.metrics.threshold
        assert final.sensitivity == training.rounds[-1].sensitivity
        by_lesion = results.evidence.level(Level.LESION)
        assert final.auroc_interval == by_lesion.estimate("auroc").interval
        assert final.sensitivity_interval == by_lesion.estimate("sensitivity").interval
        assert final.specificity_interval == by_lesion.estimate("specificity").interval
        assert final.auroc_interval.low < final.auroc < final.auroc_interval.high

    def test_the_sites_histograms_stand_beside_them(self, with_holdout):
        results, training, _ = with_holdout
        pooled = histogram_auroc(sum_histograms([site.test for site in training.last.sites.values()]))
        assert results.final.auroc_site_histograms == pooled.value
        assert results.final.auroc_site_histograms_error_bound == pooled.binning_bound
        assert results.final.auroc_site_histograms_noise_standard_error == 0

    def test_of_histograms_alone(self, with_histograms):
        results, training = with_histograms
        final = results.final
        assert final.auroc == final.auroc_site_histograms == training.last.metrics.auroc
        assert final.auroc_source is AurocSource.SITE_HISTOGRAMS
        assert final.threshold_source is ThresholdSource.SITE_VALIDATION
        assert (final.num_lesions, final.num_patients) == (60, None)
        assert (final.auroc_interval, final.sensitivity_interval) == (None, None)
        assert [level.level for level in results.evidence.levels] == [Level.LESION]
        assert results.evidence.groups == ()

    def test_noisy_histograms_give_a_standard_error_and_no_evidence(self, federation):
        config = federation.config("evaluation.privacy=dp", "evaluation.target_epsilon=100", has_lesions=False)
        results = results_of(train(config, SiteGrid()), config)
        assert results.final.auroc_site_histograms_noise_standard_error > 0
        assert results.final.num_lesions is None
        assert results.evidence is None
        assert all(site.num_test_lesions is None for site in results.sites)

    def test_a_training_whose_last_round_was_not_evaluated_has_no_results(self, federation, with_histograms):
        _, training = with_histograms
        blind = dataclasses.replace(training, last=dataclasses.replace(training.last, metrics=None))
        with pytest.raises(RoundError, match="Expected the last round to be evaluated"):
            results_of(blind, federation.config())
        with pytest.raises(RoundError, match="Expected the last round to be evaluated"):
            final_metrics(blind)


class TestSites:
    def test_every_site_with_what_it_declared_and_spent(self, with_holdout, federation):
        results, training, _ = with_holdout
        assert [site.site for site in results.sites] == sorted(SITES)
        for site in results.sites:
            assert site.num_patients_declared == NUM_PATIENTS[site.site]
            assert site.delta == 1e-4
            assert site.epsilon == pytest.approx(gaussian_epsilon(4, site.noise_multiplier, 1e-4), rel=1e-3)
            test = training.last.sites[site.site].test
            assert site.num_test_lesions == test.num_lesions == 20
            assert site.auroc == histogram_auroc(test).value

    @pytest.mark.parametrize("mode", ["exact", "dp", "none"])
    def test_figures_of_a_site_come_from_the_server_s_lesions_where_these_name_their_sites(self, federation, mode):
        config = federation.config(f"evaluation.privacy={mode}")
        training = train(config, SiteGrid())
        lesions = Lesions.load(federation.holdout)
        homes = np.array(["WFU", *["MGH", "ISMD"] * len(lesions)][: len(lesions)])
        predictions = Predictions.from_lesions(lesions, training.last.metrics.scores, {"site": tuple(homes)})
        sites = {site.site: site for site in results_of(training, config, predictions).sites}
        assert (sites["WFU"].auroc, sites["WFU"].num_test_lesions) == (None, 1)
        for name in ("MGH", "ISMD"):
            rows = homes == name
            assert sites[name].num_test_lesions == rows.sum() > 50
            assert sites[name].auroc == pytest.approx(roc_auc_score(predictions.labels[rows], predictions.scores[rows]))

    def test_a_server_s_lesions_of_unknown_sites_leave_the_histograms(self, federation):
        config = federation.config("evaluation.privacy=dp", "evaluation.target_epsilon=100")
        training = train(config, SiteGrid())
        results = results_of(training, config, predictions_of(federation, training))
        for site in results.sites:
            assert site.auroc == histogram_auroc(training.last.sites[site.site].test).value
            assert site.num_test_lesions is None

    def test_without_privacy_and_counts_there_is_little_to_say(self, federation):
        config = federation.config("privacy=off", "evaluation.privacy=none")
        training = train(config, SiteGrid())
        results = results_of(training, config, predictions_of(federation, training))
        for site in results.sites:
            assert (site.epsilon, site.delta, site.noise_multiplier) == (None, None, None)
            assert (site.auroc, site.num_test_lesions) == (None, None)
        assert results.final.auroc_site_histograms is None


class TestPrivacy:
    @staticmethod
    def privacy_of(federation, *overrides):
        config = federation.config(*overrides)
        training = train(config, SiteGrid())
        return results_of(training, config, predictions_of(federation, training)).privacy

    def test_the_promise_of_a_private_run(self, federation):
        privacy = self.privacy_of(federation, "privacy.target_epsilon=4", "privacy.delta=1e-5")
        assert privacy.unit is PrivacyUnit.PATIENT
        assert "(4, 1e-05)-differentially private for every patient of its training cohort" in privacy.statement
        assert privacy.adjacency == "add or remove one patient with all lesions"
        assert "Poisson" not in privacy.mechanism

    def test_sampled_patients_are_named_in_the_mechanism(self, federation):
        assert "Poisson-sampled patients" in self.privacy_of(federation, "training.sampling_rate=0.5").mechanism

    def test_seeded_noise_protects_nobody(self, federation):
        privacy = self.privacy_of(federation, "privacy.noise=seeded")
        assert "nobody was protected" in privacy.statement
        assert "differentially private" not in privacy.statement

    def test_secure_sums_have_two_promises_and_a_price_by_the_number_that_collude(
        self, with_holdout, shared_federation
    ):
        """What a site claims is what the sum costs; the rest follows from the plan."""
        _, training, predictions = with_holdout
        config = shared_federation.config(
            "federation.secure_sum=true",
            "federation.min_sites=3",
            "evaluation.privacy=none",
            run_dir=shared_federation.folder / "with_holdout",
        )
        results = results_of(training, config, predictions)
        privacy = results.privacy
        assert (privacy.secure_sum, privacy.num_noise_shares, privacy.max_colluding) == (True, 3, 0)
        plan = PrivacyPlan.calibrate(config, 1)
        exact = [
            gaussian_epsilon(plan.num_rounds, plan.noise_multiplier * math.sqrt((3 - known) / 3), plan.delta)
            for known in range(3)
        ]
        for site in results.sites:
            assert site.epsilon_by_colluding[0] == site.epsilon
            assert site.epsilon_by_colluding == pytest.approx(exact, rel=1e-6)
        assert "saw only sums over 3 or more of them, which are (8, 0.0001)-differentially private" in privacy.statement
        shown = math.ceil(100 * exact[-1]) / 100
        assert f"own share of the noise: it is ({shown:.2f}, 0.0001)-differentially private." in privacy.statement

    def test_without_secure_sums_there_is_one_price(self, with_holdout):
        results, _, _ = with_holdout
        assert (results.privacy.secure_sum, results.privacy.num_noise_shares) == (False, 1)
        assert all(site.epsilon_by_colluding == (site.epsilon,) for site in results.sites)

    def test_without_privacy_nothing_is_promised(self, federation):
        privacy = self.privacy_of(federation, "privacy=off")
        assert privacy.unit is PrivacyUnit.NONE
        assert privacy.statement.startswith("No privacy guarantee")
        assert (privacy.adjacency, privacy.mechanism, privacy.target_epsilon, privacy.noise_source) == (None,) * 4

    @pytest.mark.parametrize(
        ("mode", "statement"),
        [
            ("exact", "test and validation counts are exact and not covered by epsilon"),
            ("none", "sites sent nothing about their test and validation patients"),
            ("dp", r"test and validation counts are (2, 0.0001)-differentially private"),
        ],
    )
    def test_what_becomes_of_test_patients_is_said(self, federation, mode, statement):
        assert self.privacy_of(federation, f"evaluation.privacy={mode}").evaluation.startswith(statement)


class TestScoreCounts:
    def test_of_predictions(self, with_holdout):
        _, training, predictions = with_holdout
        counts = score_counts(training.last.metrics, predictions)
        assert counts.positives.sum() == predictions.labels.sum()
        assert np.isin(counts.scores, predictions.scores).all()

    def test_of_exact_histograms(self, with_histograms):
        _, training = with_histograms
        counts = score_counts(training.last.metrics, None)
        assert counts.positives.tolist() == training.last.metrics.site_test.positives.tolist()

    def test_none_for_one_class(self, with_histograms):
        _, training = with_histograms
        test = training.last.metrics.site_test
        benign = dataclasses.replace(test, positives=np.zeros_like(test.positives))
        assert score_counts(dataclasses.replace(training.last.metrics, site_test=benign), None) is None

    def test_none_where_sites_sent_nothing(self, with_histograms):
        _, training = with_histograms
        assert score_counts(dataclasses.replace(training.last.metrics, site_test=None), None) is None


def test_the_document_names_its_run(with_holdout):
    results, training, _ = with_holdout
    assert (results.preset, results.seed, results.provenance) == ("cbis_mass", 0, PROVENANCE)
    assert results.rounds == training.rounds


def test_a_run_that_began_with_numbers_of_public_lesions_names_them(federation):
    config = federation.config(
        "model.modality=fusion",
        "model.feature_constants=shipped",
        "model.image_components=16",
        "data.source=manifest",
    )
    training = train(config, SiteGrid())
    found, facts = (
        results_of(training, config, predictions_of(federation, training)).reference,
        training.reference.facts,
    )
    assert (found.data_set, found.licence, found.citation) == (facts.data_set, facts.licence, facts.citation)
    assert found.file_sha256 == hashlib.sha256(SHIPPED_FILE.read_bytes()).hexdigest()
    assert (found.num_patients, found.sites, found.has_head) == (691, (), False)


def test_another_run_names_none(with_holdout):
    assert with_holdout[0].reference is None
