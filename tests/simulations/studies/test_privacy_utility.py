"""The runs of the privacy-utility study: every input at every target epsilon, and what is compared with them."""

import dataclasses

import pytest

from shared_model.config.choices import Modality, PrivacyMode
from simulations.studies.noise_shares import shared_runs
from simulations.studies.privacy_utility import (
    COMPARED_EPSILONS,
    INPUTS,
    TARGET_EPSILONS,
    UTILITY,
    WITH_PUBLIC,
    comparisons,
    run_name,
    utility_runs,
)
from simulations.studies.study import Study


@pytest.fixture(scope="module")
def jobs(data, clinical_phantom, tmp_path_factory):
    """The study's runs by name, ready to start."""
    overrides = ("preset=smoke", f"data.root={clinical_phantom.root}")
    study = Study(protocol=UTILITY, overrides=overrides, seeds=(0,), folder=tmp_path_factory.mktemp("utility"))
    jobs = study.jobs(data, 0)
    assert (
        len(jobs)
        == len({job.folder for job in jobs})
        == (5 * len(INPUTS | WITH_PUBLIC) + 2 * len(comparisons(data)) + len(shared_runs()))
    )
    return {job.name: job.config for job in jobs}


def test_every_run_is_an_experiment_of_its_own(jobs):
    contents = {dataclasses.replace(config, run=dataclasses.replace(config.run, dir="")) for config in jobs.values()}
    # As the smoke preset sees descriptors and single views, so does the input "image + descriptors".
    assert len(contents) > len(jobs) - 10


def test_names_say_what_is_promised(jobs):
    assert jobs["image, no privacy"].privacy.mode is PrivacyMode.OFF
    assert jobs["image, epsilon 2"].privacy.target_epsilon == 2
    assert {run_name(name, epsilon) for name in INPUTS for epsilon in TARGET_EPSILONS} <= set(jobs)


@pytest.mark.parametrize(
    ("name", "modality", "features"),
    [
        ("image", Modality.IMAGE, "descriptors"),
        ("image + safe columns", Modality.FUSION, "safe"),
        ("image + descriptors", Modality.FUSION, "descriptors"),
        ("reader columns alone", Modality.CLINICAL, "reader"),
    ],
)
def test_names_say_what_the_network_reads(jobs, name, modality, features):
    for epsilon in TARGET_EPSILONS:
        config = jobs[run_name(name, epsilon)]
        assert (config.model.modality, config.data.features) == (modality, features)


def test_what_is_compared_is_tested_on_the_same_lesions_whoever_trains(jobs):
    names = ("centralised", "MGH alone", "WFU alone", "ISMD alone", "mid fusion", "late fusion")
    configs = [jobs[run_name(name, epsilon)] for name in names for epsilon in COMPARED_EPSILONS]
    assert len({config.evaluation.holdout for config in configs}) == 1
    assert len({config.evaluation.public for config in configs}) == 1


def test_comparisons_train_where_their_names_say(jobs, data):
    assert jobs["MGH alone, epsilon 8"].federation.sites == ("MGH",)
    assert len(jobs["patients dealt by Dirichlet(0.5), 10 sites, epsilon 8"].federation.sites) == 10
    assert jobs["late fusion, no privacy"].model.fusion == "late"
    assert len(utility_runs(data)) == len(jobs)
