"""What a site answers and what its ledger then holds, without Flower in between.

The site is a real one, of clinical columns only, so that a round takes milliseconds: a table and a ledger on disk.
"""

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from client.data.splits import Role
from client.local_round import evaluate_locally, train_locally
from client.privacy.ledger import Ledger
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Committed, Purpose, Reserved, Unprotected
from client.privacy.ledger_history import composed_epsilon
from client.privacy.policy import OPEN_POLICY, SitePolicy
from client.site import Site, open_site
from shared_model.errors import BudgetError, DataError, LedgerError, PolicyError, ProtocolError, TimeLimitError
from shared_model.messages import Request, evaluate_reply_to_bytes, train_reply_to_bytes
from shared_model.network import build_network
from shared_model.reference.reference_file import SHIPPED_FILE, read_reference
from shared_model.system.deadline import Deadline
from shared_model.vocabulary import clinical_width
from tests.one_site import NUM_DECLARED, NUM_PATIENTS, NUM_TEST, contents_of, releases_of, request_of


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WatchedData:
    """A site's data that call ``on_read`` whenever lesions are asked for."""

    of_site: object
    on_read: object

    def patients(self, *roles):
        return self.of_site.patients(*roles)

    def lesions(self, *arguments, **options):
        self.on_read()
        return self.of_site.lesions(*arguments, **options)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WatchedSite(Site):
    """A site that calls ``on_read`` whenever lesions are asked for."""

    on_read: object

    @property
    def data(self):
        return WatchedData(of_site=super().data, on_read=self.on_read)


def watched(site, on_read):
    return WatchedSite(settings=site.settings, policy=site.policy, ledger=site.ledger, on_read=on_read)


def unreadable(site):
    """The site with data that nobody can read any more."""

    def fail():
        raise DataError("Expected readable images.")

    return watched(site, fail)


def answer(kind, request, site):
    """Return the bytes of the reply to a request of ``kind``."""
    if kind == "train":
        return train_reply_to_bytes(train_locally(request, site))
    return evaluate_reply_to_bytes(evaluate_locally(request, site))


def numbers_of(kind, request, site):
    """Return the noised numbers of the reply."""
    if kind == "train":
        return np.concatenate([array.ravel() for array in train_locally(request, site).update.values()])
    reply = evaluate_locally(request, site)
    return np.concatenate([reply.test.positives, reply.test.negatives])


class TestOrder:
    """Reserve, read, commit: whatever happens in between, what was spent stands in the ledger."""

    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    def test_the_budget_is_on_disk_before_a_lesion_is_read(self, make_config, open_home, kind):
        config = make_config("evaluation.privacy=dp")
        site, seen = open_home(config), []

        def on_read():
            seen.append((len(contents_of(site, Reserved)), len(contents_of(site, Committed))))

        answer(kind, request_of(config), watched(site, on_read))
        assert seen
        assert set(seen) == {(1, 0)}
        assert len(contents_of(site, Committed)) == 1

    @pytest.mark.parametrize(
        ("kind", "overrides", "purpose"),
        [
            ("train", ["privacy=off"], Purpose.TRAINING),
            ("evaluate", ["evaluation.privacy=exact"], Purpose.EVALUATION),
        ],
    )
    def test_an_unprotected_release_is_noted_before_a_lesion_is_read(
        self, make_config, open_home, kind, overrides, purpose
    ):
        config = make_config(*overrides)
        site, seen = open_home(config), []
        answer(kind, request_of(config), watched(site, lambda: seen.append(contents_of(site, Unprotected))))
        assert seen
        assert all([entry.purpose for entry in entries] == [purpose] for entries in seen)

    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    def test_a_round_that_fails_has_spent_its_budget_and_the_next_try_costs_no_more(self, make_config, open_home, kind):
        config = make_config("evaluation.privacy=dp", "evaluation.target_epsilon=8")
        site = open_home(config)
        with pytest.raises(DataError, match="Expected readable images"):
            answer(kind, request_of(config), unreadable(site))
        assert len(contents_of(site, Reserved)) == 1
        assert contents_of(site, Committed) == []
        answer(kind, request_of(config), open_home(config))
        assert len(releases_of(site)) == len(contents_of(site, Committed)) == 1

    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    @pytest.mark.parametrize("overrides", [[], ["training.sampling_rate=0.5"]], ids=["whole cohort", "sampled"])
    def test_a_reply_that_could_not_be_stored_is_made_again_bit_for_bit(
        self, make_config, open_home, monkeypatch, kind, overrides
    ):
        config = make_config("evaluation.privacy=dp", *overrides)
        assert config.privacy.noise == "secure"
        site, lost = open_home(config), []

        def fail(_ledger, _reservation, reply):
            lost.append(reply)
            raise LedgerError("Expected a disk with space.")

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "commit", fail)
            with pytest.raises(LedgerError, match="Expected a disk with space"):
                answer(kind, request_of(config), site)
        assert answer(kind, request_of(config), open_home(config)) == lost[0]
        assert len(releases_of(site)) == 1

    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    def test_a_repeated_request_gets_equal_bytes_at_no_cost_and_reads_nothing(self, make_config, open_home, kind):
        config = make_config("evaluation.privacy=dp")
        assert config.privacy.noise == "secure"
        site = open_home(config)
        first = answer(kind, request_of(config), site)
        assert answer(kind, request_of(config), unreadable(site)) == first
        assert answer(kind, request_of(config), unreadable(open_home(config))) == first
        assert len(releases_of(site)) == 1

    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    def test_no_two_sums_have_one_noise_whatever_becomes_of_the_ledger(
        self, make_config, open_home, monkeypatch, tmp_path, kind
    ):
        """A ledger of the moment between reservation and reply is put back, and meanwhile a patient is gone.

        The two replies would differ by her part exactly, if the noise were the same.
        """
        config = make_config("evaluation.privacy=dp")
        site = open_home(config, validation_fraction=0.0)
        with pytest.raises(DataError, match="Expected readable images"):
            answer(kind, request_of(config), unreadable(site))

        def replied_by(copy):
            shutil.copytree(site.ledger.path.parent, tmp_path / copy)
            return numbers_of(kind, request_of(config), open_home(config, ledger=copy, validation_fraction=0.0))

        first, restored = replied_by("first"), replied_by("restored")
        np.testing.assert_array_equal(first, restored)
        table = Path(site.settings.config.data.root)
        frame = pd.read_csv(table, dtype=str, keep_default_na=False)
        gone = site.data.patients(Role.TRAIN if kind == "train" else Role.TEST)[0]
        frame[frame["patient_id"] != gone].to_csv(table, index=False)
        # One patient is in few bins of a histogram, and yet all numbers move.
        assert (replied_by("without her") != first).all()


class TestTime:
    """A limit of time binds whatever takes it: training, scoring, reading images."""

    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    @pytest.mark.parametrize("overrides", [[], ["privacy=off", "evaluation.privacy=exact"]], ids=["private", "exact"])
    def test_when_it_is_up_a_request_stops_and_the_next_try_costs_no_more(
        self, make_config, open_home, kind, overrides
    ):
        """Earlier: an evaluation had no limit, and training only between its steps."""
        config = make_config("evaluation.privacy=dp", *overrides)
        with pytest.raises(TimeLimitError, match="at most 1e-09 s"):
            answer(kind, request_of(config), open_home(config, max_request_seconds=1e-9))
        site = open_home(config)
        assert len(releases_of(site)) == 1
        answer(kind, request_of(config), site)
        assert len(releases_of(site)) == 1

    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    def test_nobody_is_refused_like_anybody(self, make_config, open_home, table, kind):
        """Without a patient there is no pass through the network in which the time could be noticed."""
        pd.read_csv(table).iloc[:0].to_csv(table, index=False)
        config = make_config("evaluation.privacy=dp")
        with pytest.raises(TimeLimitError, match="at most 1e-09 s"):
            answer(kind, request_of(config), open_home(config, max_request_seconds=1e-9))

    def test_the_images_that_were_read_in_time_need_not_be_read_again(self, make_config, open_home, monkeypatch):
        config = make_config()
        data, calls = open_home(config).data, []

        def load(table, _config, *, report, max_cache_bytes):
            calls.append(len(table.frame))
            report(64, 128)
            raise AssertionError("Expected to stop.")

        monkeypatch.setattr("client.site.load_all_lesions", load)
        with pytest.raises(TimeLimitError, match="at most 1e-09 s"):
            data.lesions(Role.TRAIN, deadline=Deadline(1e-9))
        monkeypatch.undo()
        assert len(data.lesions(Role.TRAIN)) > 0
        assert len(calls) == 1


class TestTraining:
    def test_epsilon_is_that_of_all_releases_and_reaches_the_target_in_the_last_round(self, make_config, open_home):
        config = make_config()
        site, spent = open_home(config), []
        for number in range(1, config.training.num_rounds + 1):
            reply = train_locally(request_of(config, number), site)
            assert reply.privacy.epsilon == pytest.approx(composed_epsilon(releases_of(site), config.privacy.delta))
            spent.append(reply.privacy.epsilon)
        assert spent == sorted(set(spent))
        assert 0.98 * config.privacy.target_epsilon < spent[-1] <= config.privacy.target_epsilon

    def test_the_release_says_what_was_done(self, make_config, open_home):
        config = make_config()
        site = open_home(config)
        reply = train_locally(request_of(config, 2), site)
        (release,) = contents_of(site, Reserved)
        assert (release.purpose, release.server_round, release.noise) == (Purpose.TRAINING, 2, "secure")
        assert release.mechanism.noise_multiplier == reply.privacy.noise_multiplier
        assert release.mechanism.num_steps == config.training.local_steps
        assert release.max_grad_norm == config.privacy.max_grad_norm
        assert release.num_patients_declared == reply.num_patients_declared

    @pytest.mark.parametrize("override", ["privacy.cohort_rounding=7", "seed=3", "data.validation_fraction=1e-12"])
    def test_the_declared_size_is_the_policys_whatever_is_asked(self, make_config, open_home, override):
        config = make_config(override)
        reply = train_locally(request_of(config), open_home(config))
        assert reply.num_patients_declared == NUM_DECLARED

    @pytest.mark.parametrize(("rounding", "least"), [(1, 0), (5, 0), (7, 0), (50, 1)])
    def test_a_simulated_site_without_a_size_in_its_policy_counts(self, make_config, rounding, least):
        config = make_config(f"privacy.cohort_rounding={rounding}")
        site = open_site({"partition-id": 0}, config)
        num_patients = len(site.data.patients(Role.TRAIN))
        reply = train_locally(request_of(config), site)
        assert reply.num_patients_declared == max(least, num_patients - num_patients % rounding)

    def test_fewer_patients_than_declared_are_an_alarm_at_the_site_alone(self, make_config, open_home, caplog):
        config = make_config()
        for declared in (NUM_PATIENTS - NUM_TEST, 5):
            caplog.clear()
            site = open_home(config, ledger=f"{declared}", declared_patients=declared)
            reply = train_locally(request_of(config), site)
            assert reply.num_patients_declared == declared
            has_fewer = len(site.data.patients(Role.TRAIN)) < declared
            assert has_fewer == (declared > 5)
            assert ("below declared_patients" in caplog.text) == has_fewer

    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    def test_a_forgotten_patient_takes_part_no_longer(self, make_config, open_home, kind):
        """Also where nothing is private: without her the reply is that of a site that never had her."""
        config = make_config("privacy=off", "evaluation.privacy=exact")
        site = open_home(config)
        role = Role.TRAIN if kind == "train" else Role.TEST
        before = answer(kind, request_of(config), site)
        gone = site.data.patients(role)[0]
        site.ledger.forget(gone)
        after = answer(kind, request_of(config), open_home(config))
        assert after != before
        table = Path(site.settings.config.data.root)
        frame = pd.read_csv(table, dtype=str, keep_default_na=False)
        frame[frame["patient_id"] != gone].to_csv(table, index=False)
        assert answer(kind, request_of(config), open_home(config)) == after

    def test_tables_are_read_again_when_they_changed(self, make_config, open_home, table):
        config = make_config()
        site = open_home(config)
        train_locally(request_of(config, 1), site)
        before = site.data
        assert site.data is before
        frame = pd.read_csv(table, dtype=str, keep_default_na=False)
        gone = before.patients(Role.TRAIN)[0]
        new = frame.iloc[-1:].assign(patient_id="new", lesion_id="new lesion", split="train")
        pd.concat([frame[frame["patient_id"] != gone], new]).to_csv(table, index=False)
        train_locally(request_of(config, 2), open_home(config))
        first, second = contents_of(site, Reserved)
        members = read_history(site.ledger.path).members
        here, there = members[first.cohort], members[second.cohort]
        assert here - there == {site.ledger.pseudonym(gone)}
        assert there - here <= {site.ledger.pseudonym("new")}

    @pytest.mark.parametrize(("noise", "is_equal"), [("secure", False), ("seeded", True)])
    def test_secure_noise_is_new_every_time_and_seeded_noise_is_the_same(self, make_config, open_home, noise, is_equal):
        config = make_config(f"privacy.noise={noise}")
        # Roles are keyed with a secret of the ledger: without validation patients two sites train on the same ones.
        sites = [open_home(config, ledger=name, validation_fraction=0.0) for name in "AB"]
        first, second = (train_locally(request_of(config), site).update for site in sites)
        assert all(np.array_equal(first[name], second[name]) == is_equal for name in first)

    def test_without_privacy_it_is_a_step_of_gradient_descent(self, make_config, open_home):
        """A second way to the update: explicit autograd of the mean over patients of the mean over their lesions."""
        config = make_config("privacy=off", "training.local_steps=1", "training.weight_decay=0", "strategy=fedavg")
        assert config.training.sampling_rate == 1.0
        site, request = open_home(config), request_of(config)
        reply = train_locally(request, site)
        network = build_network(config.model, clinical_width(config.data.features), seed=config.seed)
        lesions, losses = site.data.lesions(Role.TRAIN), []
        for patient in lesions.patients.unique():
            rows = lesions.patients == patient
            logits = network(lesions.images[rows], lesions.has_image[rows], lesions.clinical[rows])
            losses.append(
                torch.nn.functional.binary_cross_entropy_with_logits(
                    logits, lesions.labels[rows], pos_weight=torch.tensor(config.training.positive_weight)
                )
            )
        torch.stack(losses).mean().backward()
        gradients = {name: value.grad for name, value in network.named_parameters() if value.requires_grad}
        assert reply.privacy is None
        assert set(reply.update) == set(gradients)
        for name, gradient in gradients.items():
            step = -config.training.learning_rate * gradient.numpy()
            np.testing.assert_allclose(reply.update[name], step, rtol=1e-4, atol=1e-7)

    def test_training_without_privacy_is_noted_once(self, make_config, open_home):
        config = make_config("privacy=off")
        site = open_home(config)
        for number in (1, 2):
            train_locally(request_of(config, number), site)
        (release,) = releases_of(site)
        assert isinstance(release, Unprotected)
        assert composed_epsilon([release], 1e-4) == math.inf

    def test_the_proximal_term_of_fedprox_pulls_at_the_second_step(self, make_config, open_home):
        updates = []
        for mu in (0.0, 1.0):
            config = make_config(
                "privacy=off",
                "training.local_steps=2",
                "training.learning_rate=0.1",
                "strategy=fedprox",
                f"strategy.proximal_mu={mu}",
            )
            updates.append(train_locally(request_of(config), open_home(config)).update)
        free, pulled = (math.sqrt(sum(float((a**2).sum()) for a in update.values())) for update in updates)
        assert 0 < pulled < free


class TestEvaluation:
    def test_exact_histograms_count_every_held_out_lesion(self, make_config, open_home):
        config = make_config("evaluation.privacy=exact")
        site = open_home(config)
        reply = evaluate_locally(request_of(config, 0), site)
        for role, histogram in ((Role.TEST, reply.test), (Role.VALIDATION, reply.validation)):
            labels = site.data.lesions(role).labels.numpy()
            assert len(labels) > 0
            assert histogram.positives.sum() == labels.sum()
            assert histogram.negatives.sum() == (1 - labels).sum()
        # The untrained network scores every lesion 1/2: one bin holds all.
        assert np.count_nonzero(reply.test.positives) == 1
        (release,) = releases_of(site)
        assert isinstance(release, Unprotected)
        assert release.purpose is Purpose.EVALUATION

    def test_exact_evaluation_is_noted_once_a_run(self, make_config, open_home):
        config = make_config("evaluation.privacy=exact")
        site = open_home(config)
        first = evaluate_locally(request_of(config, 1), site)
        again = evaluate_locally(request_of(config, 1), site)
        assert evaluate_reply_to_bytes(first) == evaluate_reply_to_bytes(again)
        evaluate_locally(request_of(config, 2), site)
        assert len(releases_of(site)) == 1

    def test_noisy_histograms_weigh_every_patient_once_and_carry_the_planned_noise(self, make_config, open_home):
        config = make_config("evaluation.privacy=dp", "evaluation.target_epsilon=1000", "evaluation.delta=0.09")
        site = open_home(config)
        reply = evaluate_locally(request_of(config), site)
        (release,) = contents_of(site, Reserved)
        assert release.mechanism.num_steps == 1
        assert release.max_grad_norm == 1.0
        # Next to no noise: the sum over bins and classes is the number of patients.
        total = float(reply.test.positives.sum() + reply.test.negatives.sum())
        spread = release.mechanism.noise_multiplier * math.sqrt(2 * config.evaluation.bins)
        assert abs(total - NUM_TEST) < 5 * spread

    def test_a_run_buys_one_release_whatever_rounds_are_asked(self, make_config, open_home):
        config = make_config("evaluation.privacy=dp")
        site = open_home(config)
        evaluate_locally(request_of(config, 1), site)
        with pytest.raises(BudgetError, match="Expected this run to keep its promise"):
            evaluate_locally(request_of(config, 2), site)
        assert len(releases_of(site)) == 1

    def test_nothing_is_sent_where_sites_are_to_send_nothing(self, make_config, open_home):
        config = make_config("evaluation.privacy=none")
        site = open_home(config)
        with pytest.raises(ProtocolError, match=r"Expected no request to evaluate with evaluation\.privacy=none"):
            evaluate_locally(request_of(config), unreadable(site))
        assert releases_of(site) == []

    def test_training_and_evaluation_have_budgets_of_their_own_in_a_run(self, make_config, open_home):
        config = make_config("evaluation.privacy=dp")
        site = open_home(config)
        for number in range(1, config.training.num_rounds + 1):
            train_locally(request_of(config, number), site)
        evaluate_locally(request_of(config), site)
        assert [release.purpose for release in releases_of(site)] == ["training"] * 3 + ["evaluation"]


class TestRefusals:
    """Nothing was read and nothing was spent."""

    @pytest.mark.parametrize("server_round", [-1, 0, 4])
    def test_a_round_out_of_range(self, make_config, open_home, server_round):
        config = make_config()
        site = open_home(config)
        with pytest.raises(ProtocolError, match=rf"Expected round {server_round} in \[1, 3\]"):
            train_locally(request_of(config, server_round), unreadable(site))
        assert releases_of(site) == []

    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    @pytest.mark.parametrize("change", ["parameters", "constants"])
    def test_another_networks_parameters(self, make_config, open_home, kind, change):
        config = make_config("evaluation.privacy=dp")
        site = open_home(config)
        request = request_of(config, **{change: {"other": np.zeros(3, dtype=np.float32)}})
        with pytest.raises(ProtocolError, match="Expected the parameters of the configured network"):
            answer(kind, request, unreadable(site))
        assert releases_of(site) == []

    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    def test_too_little_noise_for_the_policy(self, make_config, open_home, kind):
        config = make_config("evaluation.privacy=dp")
        site = open_home(config, min_noise_multiplier=100.0)
        with pytest.raises(PolicyError, match=r"Expected noise_multiplier=.* >= 100"):
            answer(kind, request_of(config), unreadable(site))
        assert releases_of(site) == []

    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    @pytest.mark.parametrize("change", ["parameters", "constants"])
    def test_entries_beyond_the_policys_bound(self, make_config, open_home, kind, change):
        config = make_config("evaluation.privacy=dp", "model.modality=fusion")
        site, request = open_home(config, max_magnitude=10.0), request_of(config)
        arrays = {name: np.full_like(array, 11) for name, array in getattr(request, change).items()}
        assert arrays
        with pytest.raises(PolicyError, match=r"Expected .* of absolute values <= 10"):
            answer(kind, dataclasses.replace(request, **{change: arrays}), unreadable(site))
        assert releases_of(site) == []

    @pytest.mark.parametrize(("kind", "override"), [("train", "privacy=off"), ("evaluate", "evaluation.privacy=exact")])
    def test_no_release_without_noise_from_a_site_with_a_limit(self, make_config, open_home, kind, override):
        config = make_config(override)
        site = open_home(config)
        limited = dataclasses.replace(site, policy=dataclasses.replace(site.policy, max_epsilon=8.0))
        with pytest.raises(BudgetError, match="Expected a private release, as the site grants epsilon 8 in all"):
            answer(kind, request_of(config), unreadable(limited))
        assert releases_of(site) == []

    def test_the_sites_limit_holds_over_runs(self, make_config, open_home):
        first = make_config()
        limits = {"max_epsilon": 1.2 * first.privacy.target_epsilon, "max_delta": first.privacy.delta}
        limits |= {"privacy": ["patient"], "evaluation": ["none", "dp"], "noise": ["secure"]}
        site = open_home(first, **limits)
        for number in range(1, first.training.num_rounds + 1):
            train_locally(request_of(first, number), site)
        second = make_config("seed=1")
        site = open_home(second, **limits)
        assert set(site.data.patients(Role.TRAIN)) == set(open_home(first, **limits).data.patients(Role.TRAIN))
        train_locally(request_of(second, 1), site)
        with pytest.raises(BudgetError, match=r"Expected epsilon .* is left"):
            train_locally(request_of(second, 2), site)
        assert composed_epsilon(releases_of(site), first.privacy.delta) <= limits["max_epsilon"]


class TestData:
    """What the data hold never decides whether there is an answer, or which."""

    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    @pytest.mark.parametrize(
        "change",
        [
            lambda frame: frame.iloc[:0],
            lambda frame: frame.assign(label="1"),
            lambda frame: frame.assign(split="test"),
            lambda frame: frame[frame["split"] == "train"],
            lambda frame: frame.assign(label="9"),
            lambda frame: frame.assign(patient_id="unknown"),
            lambda frame: frame.assign(patient_id="one for all", lesion_id="one for all"),
        ],
        ids=["nobody", "one class", "nobody to train on", "no test", "no usable row", "no identifier", "one patient"],
    )
    def test_any_cohort_is_answered(self, make_config, open_home, table, kind, change):
        config = make_config("evaluation.privacy=dp")
        site = open_home(config, min_patients=1000, max_reject_fraction=0.0)
        change(pd.read_csv(table, dtype=str, keep_default_na=False)).to_csv(table, index=False)
        answer(kind, request_of(config), site)
        assert len(contents_of(site, Committed)) == 1

    def test_nobody_is_noise_alone(self, make_config, open_home, table):
        config = make_config()
        pd.read_csv(table, dtype=str, keep_default_na=False).iloc[:0].to_csv(table, index=False)
        reply = train_locally(request_of(config), open_home(config))
        assert all(array.all() for array in reply.update.values())


def test_the_policy_of_the_tests_is_the_open_one(policy):
    assert SitePolicy.load(policy(declared_patients=None)) == SitePolicy.load(OPEN_POLICY)


def test_numbers_of_public_lesions_come_with_the_request_and_no_file_is_read(make_config, open_home):
    """The path in the configuration is the server's own: whatever it says, the site answers alike."""
    reference, replies = read_reference(SHIPPED_FILE), []
    for path in ("/no/such/file", "/etc/passwd"):
        config = make_config(
            "model.modality=image",
            "model.backbone=efficientnet_lite0",
            "model.feature_constants=shipped",
            f"model.constants_file={path}",
            "model.image_components=16",
            "model.initial_head=shipped",
        )
        request = Request(
            config=config,
            server_round=1,
            parameters={"head.output.linear.weight": reference.arrays["head.image"]},
            constants={f"image_standardisation.{name}": array for name, array in vars(reference.constants).items()},
        )
        replies.append(train_locally(request, open_home(config)))
    assert [reply.num_patients_declared for reply in replies] == [NUM_DECLARED] * 2
    assert all(reply.update["head.output.linear.weight"].shape == (1, 17) for reply in replies)
