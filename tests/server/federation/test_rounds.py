"""Whole trainings over sites that answer at once: who is asked what, resumption, and what a round leaves behind."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from flwr.app import MessageType
from sklearn.metrics import roc_auc_score

from server.evaluation import exact_histograms
from server.evaluation.global_model import GlobalMetrics, GlobalModel
from server.federation.aggregation import site_weights
from server.federation.checkpoints import CHECKPOINT_FILE, SiteState, read_checkpoint
from server.federation.rounds import FinishedRound, federate
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError, RoundError
from shared_model.messages import PrivacySpent, Request, TrainReply
from shared_model.messages.types import MEAN
from shared_model.metrics.platt_scaling import fit_platt_scaling
from shared_model.network.named_arrays import scale
from shared_model.network.scoring import predict
from shared_model.network.state import load_trainable
from shared_model.reference.reference_file import SHIPPED_FILE, read_reference
from tests.reference_files import of_sites
from tests.scripted_federation import (
    NODES,
    NUM_PATIENTS,
    SITES,
    Ledgers,
    SiteGrid,
    bytes_of,
    site_histogram,
    site_update,
    spent_after,
    stop_after,
    train,
)

TRAIN, EVALUATE = MessageType.TRAIN, MessageType.EVALUATE
PLAIN = (
    "strategy=fedavg",
    "strategy.server_learning_rate=1.0",
    "strategy.average_last_fraction=0.0",
    "strategy.aggregation=mean",
    "strategy.max_update_norm=null",
)
"""The server adds the weighted mean and keeps the last parameters, so that a training can be followed by hand."""


def sent(grid, message_type):
    """The parameters sent in each round, which are the same for all sites."""
    by_round = {}
    for kind, _, request in grid.requests:
        if kind == message_type:
            first = by_round.setdefault(request.server_round, request.parameters)
            assert bytes_of(first) == bytes_of(request.parameters)
    return by_round


def expected_parameters(federation, initial, num_rounds):
    """The parameters after each round of ``PLAIN``, in float64."""
    weights = site_weights([NUM_PATIENTS[site] for site in SITES], 0.8)
    iterates = [{name: array.astype(np.float64) for name, array in initial.items()}]
    for _ in range(num_rounds):
        current = {name: array.astype(np.float32) for name, array in iterates[-1].items()}
        updates = [site_update(site, current) for site in SITES]
        iterates.append(
            {
                name: array + sum(weight * update[name] for weight, update in zip(weights, updates, strict=True))
                for name, array in iterates[-1].items()
            }
        )
    return iterates


class TestOrder:
    def test_every_round_trains_at_all_sites_and_then_evaluates_there(self, federation):
        grid = SiteGrid()
        train(federation.config(), grid)
        steps = [(request.server_round, kind) for kind, _, request in grid.requests]
        assert steps == [(number, kind) for number in (1, 2, 3, 4) for kind in (TRAIN, EVALUATE) for _ in range(3)]
        everybody = {number: list(SITES) for number in (1, 2, 3, 4)}
        assert grid.asked(TRAIN) == grid.asked(EVALUATE) == everybody

    def test_a_round_begins_with_what_the_last_one_ended_with(self, federation):
        config, grid = federation.config(*PLAIN), SiteGrid()
        train(config, grid)
        expected = expected_parameters(federation, GlobalModel.from_config(config).initial_parameters, 4)
        for server_round, parameters in sent(grid, TRAIN).items():
            for name, array in parameters.items():
                np.testing.assert_allclose(array, expected[server_round - 1][name], rtol=1e-5, atol=1e-6)
        evaluated = sent(grid, EVALUATE)
        for server_round in (1, 2, 3):
            assert bytes_of(evaluated[server_round]) == bytes_of(sent(grid, TRAIN)[server_round + 1])

    def test_constants_and_configuration_go_with_every_request(self, federation):
        config, grid = federation.config(), SiteGrid()
        training, _ = train(config, grid)
        for _, _, request in grid.requests:
            assert request.config == config
            assert bytes_of(request.constants) == bytes_of(training.constants)

    def test_the_final_network_is_the_mean_of_the_last_rounds(self, federation):
        settings = ("strategy.average_last_fraction=0.5", "evaluation.public=null")
        config = federation.config(*PLAIN, *settings)
        training, _ = train(config, SiteGrid())
        iterates = expected_parameters(federation, GlobalModel.from_config(config).initial_parameters, 4)
        for name, array in training.parameters.items():
            np.testing.assert_allclose(array, (iterates[3][name] + iterates[4][name]) / 2, rtol=1e-5, atol=1e-6)

    def test_a_callback_sees_every_round_once_in_order(self, federation):
        training, rounds = train(federation.config(), SiteGrid())
        assert [finished.server_round for finished in rounds] == [1, 2, 3, 4]
        assert training.rounds == tuple(finished.result for finished in rounds)
        assert training.last is rounds[-1]


class TestEvaluationModes:
    def test_exact_counts_are_asked_for_in_every_round(self, federation):
        config = federation.config("evaluation.privacy=exact", has_lesions=False)
        grid = SiteGrid()
        _, rounds = train(config, grid)
        assert list(grid.asked(EVALUATE)) == [1, 2, 3, 4]
        for finished, parameters in zip(rounds, sent(grid, EVALUATE).values(), strict=True):
            request = dataclasses.replace(grid.requests[0][2], parameters=parameters)
            pooled = sum(
                (site_histogram(site, request) for site in SITES[1:]),
                start=site_histogram(SITES[0], request),
            )
            assert finished.metrics.auroc == pytest.approx(exact_histograms.auroc(pooled), abs=1e-12)
            assert finished.metrics.threshold is not None

    def test_noisy_counts_are_bought_once_for_the_last_round(self, federation):
        grid = SiteGrid()
        config = federation.config("evaluation.privacy=dp", "evaluation.target_epsilon=1000", has_lesions=False)
        training, rounds = train(config, grid)
        assert grid.asked(EVALUATE) == {4: list(SITES)}
        assert [finished.metrics is None for finished in rounds] == [True, True, True, False]
        assert [entry.auroc is None for entry in training.rounds] == [True, True, True, False]
        assert all(site.test is None for site in rounds[2].sites.values())
        assert all(site.test is not None for site in rounds[3].sites.values())

    def test_without_counts_the_server_s_own_lesions_are_scored(self, federation):
        config, grid = federation.config("evaluation.privacy=none"), SiteGrid()
        training, rounds = train(config, grid)
        assert grid.asked(EVALUATE) == {}
        labels = Lesions.load(federation.holdout).labels.numpy()
        for finished in rounds:
            assert finished.metrics.auroc == pytest.approx(roc_auc_score(labels, finished.metrics.scores))
            assert all(site.test is None for site in finished.sites.values())
        model = GlobalModel.from_config(config)
        load_trainable(model.network, training.parameters)
        assert training.last.metrics.scores.tolist() == predict(model.network, model.holdout).tolist()

    def test_somebody_must_have_test_lesions(self, federation):
        grid = SiteGrid()
        with pytest.raises(ConfigError, match=r"Expected evaluation\.holdout"):
            train(federation.config("evaluation.privacy=none", has_lesions=False), grid)
        assert grid.requests == []


class TestRescaling:
    def test_scores_are_rescaled_once_after_the_last_round(self, federation, monkeypatch):
        calls = []
        rescale = GlobalModel.rescale_scores

        def count(model, parameters):
            calls.append(parameters)
            return rescale(model, parameters)

        monkeypatch.setattr(GlobalModel, "rescale_scores", count)
        grid = SiteGrid()
        training, _ = train(federation.config(), grid)
        (before,) = calls
        assert bytes_of(training.parameters) != bytes_of(before)
        assert bytes_of(sent(grid, EVALUATE)[4]) == bytes_of(training.parameters)

    def test_the_final_scores_are_probabilities_and_rank_as_before(self, federation, tmp_path):
        config = federation.config(run_dir=tmp_path / "rescaled")
        rescaled, _ = train(config, SiteGrid())
        plain, _ = train(federation.config("evaluation.public=null", run_dir=tmp_path / "plain"), SiteGrid())
        ranks = [np.argsort(training.last.metrics.scores).tolist() for training in (rescaled, plain)]
        assert ranks[0] == ranks[1]
        assert rescaled.last.metrics.scores.tolist() != plain.last.metrics.scores.tolist()
        model = GlobalModel.from_config(config)
        load_trainable(model.network, rescaled.parameters)
        again = fit_platt_scaling(model.public.labels.numpy(), predict(model.network, model.public))
        # What is rescaled already needs no further scaling.
        assert (again.scale, again.offset) == pytest.approx((1, 0), abs=1e-3)


class TestQuorum:
    def test_one_refusal_of_three_is_a_failure_and_no_error(self, federation):
        grid = SiteGrid(refusals=[(2, 13)])
        training, rounds = train(federation.config("evaluation.privacy=none"), grid)
        assert [finished.num_sites for finished in rounds] == [3, 2, 3, 3]
        assert rounds[1].failures == ("node 13: refused",)
        assert [entry.failures for entry in training.rounds] == [0, 1, 0, 0]

    def test_without_a_quorum_the_round_ends_in_an_error_and_leaves_no_trace(self, federation):
        config, rounds = federation.config("evaluation.privacy=none"), []
        with pytest.raises(RoundError, match=r"Expected at least 2 valid replies in round 3, got 1: .*refused"):
            federate(SiteGrid(refusals=[(3, 11), (3, 13)]), config, on_round=rounds.append)
        assert [finished.server_round for finished in rounds] == [1, 2]
        assert len(read_checkpoint(Path(config.run.dir), config).rounds) == 2

    def test_a_quorum_must_evaluate_too(self, federation):
        config, grid = federation.config(), SiteGrid(evaluation_refusals=[(2, 12), (2, 13)])
        with pytest.raises(RoundError, match=r"Expected at least 2 valid replies in round 2, got 1: .*refused"):
            train(config, grid)
        assert set(grid.asked(TRAIN)) == {1, 2}
        assert len(read_checkpoint(Path(config.run.dir), config).rounds) == 1

    def test_a_site_that_does_not_evaluate_keeps_its_last_counts(self, federation):
        _, rounds = train(federation.config(), SiteGrid(evaluation_refusals=[(4, 13)]))
        before, after = (finished.sites["ISMD"] for finished in rounds[2:])
        assert after.test is before.test
        assert before.privacy.epsilon < after.privacy.epsilon == rounds[3].sites["MGH"].privacy.epsilon
        assert rounds[3].failures == ("node 13: refused",)

    def test_a_site_that_missed_a_round_keeps_what_it_said_before(self, federation):
        _, rounds = train(federation.config(), SiteGrid(refusals=[(4, 13)]))
        before, after = (finished.sites["ISMD"] for finished in rounds[2:])
        assert after == before
        assert after.privacy.epsilon < rounds[3].sites["MGH"].privacy.epsilon == pytest.approx(8, rel=1e-3)

    def test_whoever_took_part_is_waited_for_and_after_a_resume_everybody(self, federation, clock):
        # One is late in the first round and in the second. It refuses there, so the third goes on without it.
        config = federation.config("evaluation.privacy=none", "training.num_rounds=9")
        grid = SiteGrid([[11, 12], NODES, [11, 13], NODES, [11, 12]], refusals=[(2, 13)])
        assert [finished.num_sites for finished in stop_after(3, config, grid)] == [3, 2, 2]
        mgh, wfu, ismd = SITES
        assert grid.asked(TRAIN) == {1: [mgh, wfu, ismd], 2: [mgh, wfu, ismd], 3: [mgh, wfu]}
        resumed = SiteGrid([[11, 12], NODES])
        assert [finished.num_sites for finished in stop_after(4, config, resumed)] == [3]
        assert resumed.asked(TRAIN) == {4: [mgh, wfu, ismd]}


class TestNonFinite:
    def test_an_aggregate_that_overflows_is_refused(self, federation):
        def huge(site, server_round, update):
            return update if server_round == 1 else {name: np.full_like(array, 3e38) for name, array in update.items()}

        unbounded = ("strategy.aggregation=mean", "strategy.max_update_norm=null")
        config, rounds = federation.config("strategy.server_learning_rate=2.0", *unbounded), []
        expected = r"Expected finite parameters after round 2; lower the learning rates\."
        with np.errstate(over="ignore"), pytest.raises(RoundError, match=expected):
            federate(SiteGrid(change_update=huge), config, on_round=rounds.append)
        assert [finished.server_round for finished in rounds] == [1]
        assert len(read_checkpoint(Path(config.run.dir), config).rounds) == 1

    def test_an_update_that_is_not_finite_is_a_failure_of_its_site(self, federation):
        def broken(site, server_round, update):
            return {name: array * np.float32("nan") for name, array in update.items()} if site == "WFU" else update

        _, rounds = train(federation.config(), SiteGrid(change_update=broken))
        assert [finished.num_sites for finished in rounds] == [2] * 4
        assert "to be finite" in rounds[0].failures[0]
        assert set(rounds[-1].sites) == {"ISMD", "MGH"}


class TestClaims:
    """What a site says beside its update is held against the plan and against what it said before."""

    @staticmethod
    def lying(**changes):
        def change(reply):
            is_meant = reply.site == "WFU" and isinstance(reply, TrainReply) and reply.server_round == 3
            return dataclasses.replace(reply, **changes) if is_meant else reply

        return SiteGrid(change_reply=change)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"num_patients_declared": 20}, "Expected site WFU to declare 10 patients as before, got 20"),
            (
                {"privacy": PrivacySpent(epsilon=1.0, delta=1e-4, noise_multiplier=1.0)},
                "Expected site WFU to train with noise_multiplier=",
            ),
        ],
    )
    def test_a_reply_that_cannot_be_so_is_refused_and_the_round_goes_on(self, federation, changes, reason):
        config = federation.config("evaluation.privacy=none")
        training, rounds = train(config, self.lying(**changes))
        assert [finished.num_sites for finished in rounds] == [3, 3, 2, 3]
        (failure,) = rounds[2].failures
        assert failure.startswith(f"node 12: {reason}")
        assert rounds[2].sites["WFU"] == rounds[1].sites["WFU"]
        assert training.rounds[2].failures == 1

    def test_a_refused_update_is_in_no_mean(self, federation, tmp_path):
        config = federation.config("evaluation.privacy=none", run_dir=tmp_path / "lying")
        lying, _ = train(config, self.lying(num_patients_declared=20))
        config = federation.config("evaluation.privacy=none", run_dir=tmp_path / "away")
        away, _ = train(config, SiteGrid(refusals=[(3, 12)]))
        assert bytes_of(lying.parameters) == bytes_of(away.parameters)


class TestWitnesses:
    @staticmethod
    def restoring(ledgers, before_round):
        def change(reply):
            if (reply.site, reply.server_round) == ("WFU", before_round) and isinstance(reply, TrainReply):
                ledgers.restore("WFU", 1)
            return ledgers.show(reply)

        return SiteGrid(change_reply=change)

    def test_ledgers_that_continue_are_kept_and_give_no_warning(self, federation):
        config = federation.config("evaluation.privacy=dp", "evaluation.target_epsilon=100")
        _, rounds = train(config, SiteGrid(change_reply=Ledgers().show))
        assert [finished.warnings for finished in rounds] == [()] * 4
        # Four updates and a histogram.
        assert {site: len(links) for site, links in rounds[-1].witnesses.items()} == dict.fromkeys(SITES, 5)

    def test_a_restored_ledger_is_noticed_in_its_round(self, federation):
        _, rounds = train(federation.config(), self.restoring(Ledgers(), 3))
        assert [len(finished.warnings) for finished in rounds] == [0, 0, 1, 0]
        (warning,) = rounds[2].result.warnings
        assert warning == "the ledger of WFU does not continue from what it showed before: it was restored or copied"

    def test_a_reply_that_is_refused_is_a_witness_too(self, federation):
        ledgers = Ledgers()

        def change(reply):
            if reply.site == "WFU" and reply.server_round == 3:
                ledgers.restore("WFU", 1)
                # As the site's own accounting has it after the restoration.
                request = Request(config=config, server_round=2, parameters={}, constants={})
                reply = dataclasses.replace(reply, privacy=spent_after(request, NUM_PATIENTS["WFU"]))
            return ledgers.show(reply)

        config = federation.config("evaluation.privacy=none")
        _, rounds = train(config, SiteGrid(change_reply=change))
        assert rounds[2].num_sites == 2
        assert "its ledger has lost releases of this run" in rounds[2].failures[0]
        assert "restored or copied" in rounds[2].warnings[0]

    def test_a_resumed_run_remembers_what_it_saw(self, federation):
        ledgers, config = Ledgers(), federation.config()
        stop_after(2, config, SiteGrid(change_reply=ledgers.show))
        _, rounds = train(config, self.restoring(ledgers, 3))
        assert [len(finished.warnings) for finished in rounds] == [1, 0]

    def test_a_repeated_round_shows_the_same_and_is_no_cause_for_doubt(self, federation):
        ledgers, config = Ledgers(), federation.config()

        class Interrupted(SiteGrid):
            def push_messages(self, messages):
                if len(self.requests) >= 9:
                    raise KeyboardInterrupt("power cut")
                return super().push_messages(messages)

        with pytest.raises(KeyboardInterrupt, match="power cut"):
            train(config, Interrupted(change_reply=ledgers.show))
        _, rounds = train(config, SiteGrid(change_reply=ledgers.show))
        assert [finished.server_round for finished in rounds] == [2, 3, 4]
        assert [finished.warnings for finished in rounds] == [()] * 3

    def test_what_earlier_runs_saw_counts(self, federation, tmp_path):
        ledgers, config = Ledgers(), federation.config(run_dir=tmp_path / "first")
        _, rounds = train(config, SiteGrid(change_reply=ledgers.show))
        seen = rounds[-1].witnesses
        ledgers.restore("MGH", 2)
        ledgers.restore("WFU", 0)
        config, rounds = federation.config("seed=1", run_dir=tmp_path / "second"), []
        federate(SiteGrid(change_reply=ledgers.show), config, on_round=rounds.append, witnesses=seen)
        # MGH answers the first round as it had answered it before.
        assert [len(finished.warnings) for finished in rounds] == [1, 1, 0, 0]
        assert [warning.split()[3] for finished in rounds for warning in finished.warnings] == ["WFU", "MGH"]


class TestResumption:
    @pytest.mark.parametrize("last_round", [1, 2, 3])
    def test_a_resumed_run_equals_an_uninterrupted_one(self, federation, tmp_path, last_round):
        settings = ("strategy=fedadam", "strategy.average_last_fraction=0.75")
        uninterrupted, all_rounds = train(federation.config(*settings, run_dir=tmp_path / "uninterrupted"), SiteGrid())
        config = federation.config(*settings, run_dir=tmp_path / "resumed")
        stop_after(last_round, config, SiteGrid())
        grid = SiteGrid()
        resumed, rounds = train(config, grid)
        assert list(grid.asked(TRAIN)) == list(range(last_round + 1, 5))
        assert bytes_of(resumed.parameters) == bytes_of(uninterrupted.parameters)
        assert [finished.server_round for finished in rounds] == list(range(last_round + 1, 5))
        timeless = [dataclasses.replace(entry, seconds=0) for entry in resumed.rounds]
        assert timeless == [dataclasses.replace(entry, seconds=0) for entry in uninterrupted.rounds]
        for name, site in all_rounds[-1].sites.items():
            found = resumed.last.sites[name]
            assert (found.num_patients_declared, found.privacy) == (site.num_patients_declared, site.privacy)
            assert found.test.positives.tolist() == site.test.positives.tolist()

    @pytest.mark.parametrize("num_requests", [3, 4, 7, 8, 10, 22])
    def test_an_interruption_within_a_round_repeats_that_round_alone(self, federation, tmp_path, num_requests):
        class Interrupted(SiteGrid):
            def push_messages(self, messages):
                if len(self.requests) + len(messages) > num_requests:
                    raise KeyboardInterrupt("power cut")
                return super().push_messages(messages)

        uninterrupted, _ = train(federation.config(run_dir=tmp_path / "uninterrupted"), SiteGrid())
        config = federation.config(run_dir=tmp_path / "resumed")
        with pytest.raises(KeyboardInterrupt, match="power cut"):
            train(config, Interrupted())
        grid = SiteGrid()
        resumed, _ = train(config, grid)
        # A round is six requests: three sites train and evaluate.
        assert min(grid.asked(TRAIN)) == num_requests // 6 + 1
        assert bytes_of(resumed.parameters) == bytes_of(uninterrupted.parameters)

    def test_a_checkpoint_follows_every_round_but_the_last(self, federation):
        config = federation.config()
        folder, found = Path(config.run.dir), []

        def look(finished):
            found.append(len(read_checkpoint(folder, config).rounds))

        federate(SiteGrid(), config, on_round=look)
        # The state after the last round is the result itself; until it is written, the last checkpoint stays.
        assert found == [1, 2, 3, 3]

    def test_the_checkpoint_of_another_run_is_refused(self, federation):
        config = federation.config()
        stop_after(1, config, SiteGrid())
        before = (Path(config.run.dir) / CHECKPOINT_FILE).read_bytes()
        grid = SiteGrid()
        with pytest.raises(ConfigError, match="run of the same configuration; name another folder"):
            train(federation.config("seed=5"), grid)
        assert grid.requests == []
        assert (Path(config.run.dir) / CHECKPOINT_FILE).read_bytes() == before


SHIPPED = (
    "model.modality=fusion",
    "model.feature_constants=shipped",
    "model.image_components=16",
    "model.initial_head=shipped",
    "data.source=manifest",
)


class TestNumbersOfPublicLesions:
    def test_every_site_is_sent_them_and_no_mean_is_asked_for(self, federation):
        reference, grid = read_reference(SHIPPED_FILE), SiteGrid()
        training, _ = train(federation.config(*SHIPPED), grid)
        assert grid.asked(MEAN) == {}
        (first,) = sent(grid, TRAIN)[1].values()
        assert np.array_equal(first, reference.arrays["head.descriptors"])
        for _, _, request in grid.requests:
            assert np.array_equal(request.constants["image_standardisation.mean"], reference.arrays["mean"])
        assert training.reference.file_sha256 == reference.file_sha256

    def test_other_runs_name_none(self, federation):
        assert train(federation.config(), SiteGrid())[0].reference is None

    def test_a_resumed_run_equals_an_uninterrupted_one(self, federation, tmp_path):
        uninterrupted, _ = train(federation.config(*SHIPPED, run_dir=tmp_path / "uninterrupted"), SiteGrid())
        config = federation.config(*SHIPPED, run_dir=tmp_path / "resumed")
        stop_after(2, config, SiteGrid())
        resumed, _ = train(config, SiteGrid())
        assert bytes_of(resumed.parameters) == bytes_of(uninterrupted.parameters)

    def test_another_file_in_the_place_of_the_one_begun_with_is_refused(self, federation, tmp_path):
        file = of_sites(tmp_path, "WFU")
        config = federation.config(*SHIPPED, f"model.constants_file={file}")
        stop_after(1, config, SiteGrid())
        of_sites(tmp_path, "MGH")
        grid = SiteGrid()
        with pytest.raises(
            ConfigError, match=r"Expected the file of model.feature_constants=shipped that the run began"
        ):
            train(config, grid)
        assert grid.requests == []


class TestLiar:
    """One of three sites negates its updates; the scripted sites add no noise, so that angles show at once."""

    @staticmethod
    def negated(site, server_round, update):
        return scale(update, -0.2) if site == "WFU" else scale(update, 0.2)

    def test_it_is_named_in_rounds_results_and_checkpoint_and_loses_its_weight(self, federation):
        config = federation.config()
        training, rounds = train(config, SiteGrid(change_update=self.negated))
        said = "WFU points away from the other sites and did not count"
        assert said in rounds[-1].outliers
        assert said in training.rounds[-1].outliers
        assert {line.split()[0] for finished in rounds for line in finished.outliers} == {"WFU"}
        assert rounds[-1].sites["WFU"].agreement.score < -2 < rounds[-1].sites["MGH"].agreement.score

    def test_an_honest_training_names_nobody(self, federation):
        _, rounds = train(federation.config(), SiteGrid(change_update=lambda site, number, update: scale(update, 0.2)))
        assert [finished.outliers for finished in rounds] == [()] * 4

    def test_a_resumed_run_remembers_whom_it_trusts(self, federation, tmp_path):
        whole, _ = train(federation.config(), SiteGrid(change_update=self.negated))
        config = federation.config(run_dir=tmp_path / "stopped")
        stop_after(2, config, SiteGrid(change_update=self.negated))
        resumed, _ = train(config, SiteGrid(change_update=self.negated))
        assert bytes_of(resumed.parameters) == bytes_of(whole.parameters)
        assert [entry.outliers for entry in resumed.rounds] == [entry.outliers for entry in whole.rounds]

    def test_what_does_not_count_does_not_clear_a_reputation(self, federation):
        def longer_later(site, server_round, update):
            factor = 1e6 if (site, server_round) == ("WFU", 4) else 1.0
            return scale(self.negated(site, server_round, update), factor)

        _, rounds = train(federation.config(), SiteGrid(change_update=longer_later))
        assert rounds[3].outliers == ("WFU sent an update longer than any honest one and did not count",)
        assert rounds[3].sites["WFU"].agreement == rounds[2].sites["WFU"].agreement


class TestFinishedRound:
    @staticmethod
    def finished(**changes):
        values = {
            "server_round": 3,
            "metrics": GlobalMetrics(
                auroc=0.75, sensitivity=0.5, specificity=None, threshold=0.25, scores=None, site_test=None
            ),
            "sites": {
                name: SiteState(
                    num_patients_declared=10,
                    privacy=PrivacySpent(epsilon=epsilon, delta=1e-5, noise_multiplier=1.0),
                    test=None,
                )
                for name, epsilon in (("MGH", 0.5), ("WFU", 2.0))
            },
            "num_sites": 2,
            "failures": ("1 site: no reply within 9 s",),
            "warnings": ("the ledger of WFU was restored",),
            "outliers": ("MGH sent an update that was shortened",),
            "witnesses": {},
            "seconds": 1.23456,
        }
        return FinishedRound(**(values | changes))

    def test_epsilon_is_the_largest_of_all_sites(self):
        assert self.finished().epsilon == 2.0
        off = {"MGH": SiteState(num_patients_declared=10, privacy=None, test=None)}
        assert self.finished(sites=off).epsilon is None

    def test_as_the_results_hold_it(self):
        result = self.finished().result
        assert (result.round, result.auroc, result.sensitivity, result.specificity) == (3, 0.75, 0.5, None)
        assert (result.threshold, result.epsilon, result.num_sites) == (0.25, 2.0, 2)
        assert (result.failures, result.warnings) == (1, ("the ledger of WFU was restored",))
        assert result.outliers == ("MGH sent an update that was shortened",)
        assert result.seconds == 1.235

    def test_a_round_that_was_not_evaluated(self):
        result = self.finished(metrics=None).result
        assert (result.auroc, result.sensitivity, result.specificity, result.threshold) == (None,) * 4


@pytest.mark.parametrize(("num_nodes", "missing"), [(2, "ISMD"), (1, "WFU, ISMD")])
def test_a_simulation_without_a_node_for_every_site_is_no_run(federation, num_nodes, missing):
    config = federation.config("federation.round_timeout_seconds=0.4", "federation.min_sites=1")
    message = rf"Expected a node for each of 3 sites, {num_nodes} are there: {missing} would take no part"
    with pytest.raises(RoundError, match=message):
        federate(SiteGrid(connected=[NODES[:num_nodes]]), config, on_round=lambda _: None)


def test_enrolled_sites_may_be_away(federation):
    more = ("federation.node_ids=[11,12,13]", "federation.round_timeout_seconds=0.4", "training.num_rounds=1")
    training = federate(SiteGrid(connected=[NODES[:2]]), federation.config(*more), on_round=lambda _: None)
    assert training.rounds[0].num_sites == 2
