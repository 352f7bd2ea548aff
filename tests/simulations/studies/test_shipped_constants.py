"""One hospital as the public set of the others: who trains, who is tested, and whose numbers a run begins with."""

from pathlib import Path

import pytest

from server.evaluation.predictions import read_attributes
from shared_model.config.choices import ConstantsFrom
from shared_model.config.composition import compose
from shared_model.data.lesions import Lesions
from shared_model.reference.reference_file import read_reference
from shared_model.vocabulary import Split
from simulations.federation.prepare import prepare
from simulations.studies.privacy_utility import UTILITY
from simulations.studies.protocols import StudyData
from simulations.studies.shipped_constants import SHIPPED_EPSILONS, shipped_names, shipped_runs
from simulations.studies.study import Study
from simulations.studies.utility_report import comparison_table, shipped_table, to_markdown
from simulations.studies.utility_results import UtilityResult

SITES = ("MGH", "WFU", "ISMD")


@pytest.fixture(scope="module")
def images(smoke, tmp_path_factory):
    """The data of a study over the smoke preset's images, and its runs' configurations by name."""
    folder = tmp_path_factory.mktemp("shipped")
    overrides = ("preset=smoke", f"data.root={smoke.root}", f"data.cache_dir={smoke.cache}", "data.public_fraction=0")
    overrides = (*overrides, "evaluation.threshold_from=training", "data.max_reject_fraction=1")
    study = Study(protocol=UTILITY, overrides=overrides, seeds=(0,), folder=folder)
    data = StudyData.from_prepared(
        prepare(compose([*overrides, f"run.dir={folder / 'data'}"]), on_progress=lambda *_: None)
    )
    with pytest.MonkeyPatch.context() as monkeypatch:
        # Some hospitals of the phantom have fewer lesions than components are usual.
        monkeypatch.setattr("simulations.studies.shipped_constants.NUM_COMPONENTS", 4)
        monkeypatch.setattr(
            "simulations.reference.constants.RECIPE",
            ("preset=cbis_mass", "privacy=off", "model.feature_constants=public", "model.image_components=4"),
        )
        runs = shipped_runs(data)
    return data, {run.name: study.config(run, 0) for run in runs}


def test_every_hospital_is_public_once_at_every_epsilon_for_both_recipes(images):
    _, configs = images
    assert set(configs) == {
        f"{name}, epsilon {epsilon:g}" for site in SITES for name in shipped_names(site) for epsilon in SHIPPED_EPSILONS
    }


@pytest.mark.parametrize("public", SITES)
def test_both_train_at_the_others_and_are_tested_on_the_same_official_test_lesions_of_theirs(images, public):
    data, configs = images
    both = [configs[f"{name}, epsilon 1"] for name in shipped_names(public)]
    assert len({config.evaluation.holdout for config in both}) == 1
    for config in both:
        assert set(config.federation.sites) == set(SITES) - {public}
        assert config.privacy.target_epsilon == 1
    frame = data.prepared.table.frame
    expected = (frame["split"] == Split.TEST) & (frame["patient_id"].map(data.roster) != public)
    path = Path(both[0].evaluation.holdout)
    lesions = Lesions.load(path)
    assert len(lesions) == expected.sum() > 0
    assert public not in read_attributes(path, len(lesions))["site"]


@pytest.mark.parametrize("public", SITES)
def test_one_begins_with_the_numbers_of_the_public_hospital_and_the_other_with_none(images, public):
    data, configs = images
    private, shipped = (configs[f"{name}, epsilon 2"] for name in shipped_names(public))
    assert private.model.feature_constants is ConstantsFrom.PRIVATE_MEAN
    assert private.model.constants_file is None
    reference = read_reference(Path(shipped.model.constants_file))
    reference.require_fits(shipped)
    assert reference.facts.sites == (public,)
    assert {data.roster[patient] for patient in reference.facts.patients} == {public}


def test_without_images_there_are_none(data):
    assert shipped_runs(data) == []


def result_of(name, epsilon, auroc):
    return UtilityResult(
        name=name,
        epsilon=epsilon,
        num_seeds=3,
        auroc=auroc,
        deviation=0.01,
        interval=None,
        worst_site=None,
        worst_auroc=None,
        operating={},
    )


def test_their_table_stands_apart_from_the_other_comparisons():
    private, shipped = shipped_names("WFU")
    results = [result_of(private, 8.0, 0.8), result_of(shipped, 8.0, 0.9), result_of("centralised", 8.0, 0.7)]
    assert shipped_table(results).lines == [
        [private, "0.800 ± 0.010", "-", "-", "-"],
        [shipped, "0.900 ± 0.010", "-", "-", "-"],
    ]
    assert [line[0] for line in comparison_table(results).lines] == ["image + descriptors", "centralised"]
    assert "| without WFU, its constants and head | 0.900 ± 0.010 |" in to_markdown(results)
    assert "public set" not in to_markdown([result_of("centralised", 8.0, 0.7)])
