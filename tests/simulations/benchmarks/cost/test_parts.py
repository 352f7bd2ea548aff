"""Each part measures what it says, here of the smallest sizes and in this process."""

import dataclasses

import pytest

from client.deployment.site_file import SiteFile
from shared_model.errors import DataError, FederatedMammographyError
from simulations.benchmarks.child_process import CommandCost, run_fedmammo
from simulations.benchmarks.cost import deployed, preflight, training, whole_run
from simulations.benchmarks.synthetic_hospital import write_hospital


def silent(_):
    """Show no progress."""


@pytest.fixture(autouse=True)
def _no_children(monkeypatch):
    for module in (deployed, preflight, training, whole_run):
        monkeypatch.setattr(module, "in_child", lambda action, *arguments: action(*arguments))


def kinds(steps):
    return [(step.part, step.step, step.size, step.unit) for step in steps]


def test_training_is_measured_with_and_without_privacy_for_every_head(monkeypatch):
    plans = []
    monkeypatch.setattr(training, "train_round", lambda *_, training, noise: plans.append(training.plan))
    found = list(training.measure_training([10, 12], num_repeats=1, progress=silent))
    assert kinds(found) == [
        ("training", f"{head} head, {kind}", size, "patients")
        for head in ("early", "mid", "late")
        for size in (10, 12)
        for kind in ("plain", "private")
    ]
    # One round that does not count and one that does.
    assert [plan is None for plan in plans] == [True, False] * 12
    assert {plan.num_patients_declared for plan in plans if plan is not None} == {10}
    assert {plan.steps_per_round for plan in plans if plan is not None} == {1}


def test_ten_thousand_patients_train(monkeypatch):
    monkeypatch.setattr(training, "Fusion", [next(iter(training.Fusion))])
    plain, private = training.measure_training([10_000], num_repeats=1, progress=silent)
    assert plain.processor_seconds > 0
    assert private.processor_seconds > 0


def test_preflight_is_measured_after_the_ledger_has_begun():
    found = list(preflight.measure_preflight([400], progress=silent))
    assert kinds(found) == [("preflight", "init", 400, "rows"), ("preflight", "preflight", 400, "rows")]


def test_a_check_that_fails_is_no_figure(tmp_path):
    site = SiteFile.load(write_hospital(tmp_path, 400))
    preflight._begin(site)
    site.approved_bundles.write_text("")
    with pytest.raises(DataError, match="bundles: Expected an approved bundle"):
        preflight._check(site)


class TestRun:
    @pytest.fixture
    def commands(self, monkeypatch):
        """The commands that a measurement runs; their times are 1, 2, ... seconds, and none does anything."""
        found = []

        def run(arguments):
            found.append(arguments)
            return CommandCost(
                status=0,
                errors="",
                processor_seconds=float(len(found)),
                elapsed_seconds=10.0 * len(found),
                peak_bytes=100 * len(found),
            )

        results = dataclasses.make_dataclass("Results", ["sites"])
        site = dataclasses.make_dataclass("Site", ["num_patients_declared"])
        monkeypatch.setattr(whole_run, "run_fedmammo", run)
        monkeypatch.setattr(whole_run, "read_results", lambda _: results([site(20), site(30)]))
        return found

    def test_over_a_phantom(self, commands):
        first, warm = whole_run.measure_runs([60], ["seed=3"], num_repeats=3, progress=silent)
        assert kinds([first, warm]) == [("run", "first", 50, "patients"), ("run", "warm", 50, "patients")]
        # The first command writes the phantom.
        assert (first.processor_seconds, first.elapsed_seconds, first.peak_bytes) == (2.0, 20.0, 200)
        assert (warm.processor_seconds, warm.elapsed_seconds, warm.peak_bytes) == (4.0, 40.0, 500)
        phantom, *runs = commands
        assert phantom[:3] == ["phantom", "--num-patients", "60"]
        assert all(run[:2] == ["simulate", "preset=cbis_mass"] for run in runs)
        assert all(f"data.root='{phantom[-1]}'" in run and "seed=3" in run for run in runs)
        caches = [next(each for each in run if each.startswith("data.cache_dir=")) for run in runs]
        assert len(set(caches)) == 1
        assert len({run[-1] for run in runs}) == 4

    def test_over_data_of_ones_own(self, commands):
        found = list(whole_run.measure_runs([60, 70], ["data.root=there"], num_repeats=1, progress=silent))
        assert kinds(found) == [("run", "first", 50, "patients"), ("run", "warm", 50, "patients")]
        assert [("data.root=there" in run, run[0]) for run in commands] == [(True, "simulate")] * 2
        assert not any("cohort_rounding" in each for run in commands for each in run)

    @pytest.mark.slow
    def test_a_run_that_fails_is_no_figure(self):
        with pytest.raises(FederatedMammographyError, match=r"said: error: Expected data\.root=/no/such"):
            list(whole_run.measure_runs([], ["data.root=/no/such"], num_repeats=1, progress=silent))


@pytest.mark.slow
def test_a_command_is_measured_from_its_beginning_to_its_end():
    cost = run_fedmammo(["--help"])
    assert cost.status == 0
    assert cost.elapsed_seconds > 0
    assert cost.processor_seconds > 0
    assert cost.peak_bytes > 5 * 10**6
    assert run_fedmammo(["no-such-command"]).status == 2


@pytest.mark.slow
def test_a_deployment_is_measured_by_its_phases(monkeypatch):
    monkeypatch.setattr(deployed, "_SETTLING_SECONDS", 0.5)
    found = list(deployed.measure_deployed([2], num_rounds=4, waiting_seconds=0.5, progress=silent))
    assert kinds(found) == [
        ("deployed", f"{phase}, {whose}", 2, "sites")
        for phase in ("start", "waiting 0.5 s", "first round", "round")
        for whose in ("a site", "coordinator")
    ]
    by_name = {step.step: step for step in found}
    for step in found:
        assert step.elapsed_seconds > 0
        assert step.peak_bytes > 10**8
        assert (step.num_bytes is None) == step.step.endswith("coordinator")
    # The features' mean and the first training; then the training alone. Each is a request and a reply.
    assert by_name["first round, a site"].num_messages == 4
    assert by_name["round, a site"].num_messages == 2
    assert by_name["waiting 0.5 s, a site"].num_messages == 0
    # The parameters go to each site, and an update comes back.
    assert by_name["round, a site"].num_bytes > 5000
    assert by_name["start, a site"].processor_seconds > 1
    assert by_name["waiting 0.5 s, a site"].elapsed_seconds >= 0.5


@pytest.mark.slow
def test_a_site_that_cannot_start_ends_the_measurement_with_its_words(monkeypatch):
    monkeypatch.setattr(deployed, "_PATIENTS_PER_SITE", 40)

    def spoil(rehearsal):
        (rehearsal.kits.sites["SITE-1"] / "policy.yaml").write_text("nonsense: 1\n")
        return started(rehearsal)

    started = deployed._Deployment.started
    monkeypatch.setattr(deployed._Deployment, "started", spoil)
    with pytest.raises(FederatedMammographyError, match=r"SITE-1 ended: .*Expected every check to pass"):
        list(deployed.measure_deployed([1], num_rounds=3, waiting_seconds=0.1, progress=silent))
