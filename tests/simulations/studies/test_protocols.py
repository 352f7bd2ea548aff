"""The runs of every study: configurations that compose, and who is trained on and tested on."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.tables.site_table import read_roster
from shared_model.config.choices import Modality, Partition, PrivacyMode
from shared_model.config.composition import compose
from shared_model.errors import ConfigError
from simulations.studies.protocols import (
    CENTRAL,
    PROTOCOLS,
    TARGET_EPSILONS,
    StudyData,
    assign_folds,
    cross_validation,
    epsilon,
)
from simulations.studies.purposes import CROSS_VALIDATION, PURPOSES, SEARCH

SITES = ("ISMD", "MGH", "WFU")


@pytest.fixture(scope="module")
def fusion_data(data):
    """The same data as if the network read images too."""
    model = dataclasses.replace(data.config.model, modality=Modality.FUSION)
    return dataclasses.replace(data, config=dataclasses.replace(data.config, model=model))


def config_of(data, run):
    base = ["preset=smoke", f"data.root={data.config.data.root}", "run.dir=unused"]
    return compose([*base, *run.overrides])


def holdout_rows(config):
    return pd.read_csv(config.evaluation.holdout.replace(".safetensors", ".csv"))


class TestFolds:
    @given(
        st.lists(st.tuples(st.sampled_from(SITES), st.integers(0, 1)), min_size=5, max_size=60),
        st.integers(2, 5),
        st.integers(0, 3),
    )
    def test_are_balanced_and_whole(self, patients, num_folds, seed):
        names = [f"p{number}" for number in range(len(patients))]
        roster = {name: site for name, (site, _) in zip(names, patients, strict=True)}
        # Two lesions each, the second benign: the patient is as malignant as the worst.
        frame = pd.DataFrame({"patient_id": names * 2, "label": [label for _, label in patients] + [0] * len(names)})
        generator = np.random.default_rng(seed)
        folds = assign_folds(frame, roster, num_folds=num_folds, generator=generator)
        assert set(folds) == set(names)
        strata = {(site, label) for site, label in patients} | {None}
        for stratum in strata:
            members = [n for n, of in zip(names, patients, strict=True) if stratum is None or of == stratum]
            sizes = [sum(folds[name] == fold for name in members) for fold in range(num_folds)]
            assert max(sizes) - min(sizes) <= 1

    @pytest.mark.parametrize("num_folds", [1, 4])
    def test_need_enough_patients(self, num_folds):
        frame = pd.DataFrame({"patient_id": ["a", "b", "c"], "label": [0, 1, 0]})
        with pytest.raises(ConfigError, match=rf"2 <= number of folds={num_folds} <= 3 patients"):
            assign_folds(frame, dict.fromkeys("abc", "X"), num_folds=num_folds, generator=np.random.default_rng(0))

    def test_are_fixed_by_the_generator(self, data):
        frame = data.prepared.table.frame
        first, again, other = (
            assign_folds(frame, data.roster, num_folds=3, generator=np.random.default_rng(seed)) for seed in (0, 0, 1)
        )
        assert first == again != other


def test_no_patient_is_trained_and_tested_on_and_the_test_split_stays_unseen(data):
    frame = data.prepared.table.frame
    tested_by_fold = []
    for run in cross_validation(data, num_folds=3):
        config = config_of(data, run)
        trained = set(read_roster(config.data))
        left_out = set(frame.loc[frame["split"] == "train", "patient_id"]) - trained
        tested_by_fold.append(left_out)
        assert not trained & set(frame.loc[frame["split"] == "test", "patient_id"])
        rows = frame[frame["patient_id"].isin(left_out)]
        assert holdout_rows(config)["pathology"].tolist() == rows["pathology"].tolist()
    assert set.union(*tested_by_fold) == set(frame.loc[frame["split"] == "train", "patient_id"])
    assert sum(map(len, tested_by_fold)) == len(set.union(*tested_by_fold))


def test_a_hospital_that_is_left_out_is_tested_whole_and_never_asked(data):
    for site, run in zip(data.sites, PROTOCOLS["leave-one-hospital-out"](data), strict=True):
        config = config_of(data, run)
        assert site not in config.federation.sites
        assert len(config.federation.sites) == 2
        rows = holdout_rows(config)
        assert set(rows["site"]) == {site}
        assert len(rows) == sum(data.roster[patient] == site for patient in data.prepared.table.frame["patient_id"])


@pytest.mark.parametrize("protocol", [CROSS_VALIDATION, *PROTOCOLS])
class TestEveryProtocol:
    def runs(self, fusion_data, protocol):
        if protocol == CROSS_VALIDATION:
            return cross_validation(fusion_data, num_folds=4)
        return PROTOCOLS[protocol](fusion_data)

    def test_has_a_purpose(self, fusion_data, protocol):
        assert PURPOSES[protocol]
        assert set(PURPOSES) == {CROSS_VALIDATION, SEARCH, *PROTOCOLS}

    def test_has_runs_of_different_names_and_configurations_that_compose(self, fusion_data, protocol):
        runs = self.runs(fusion_data, protocol)
        assert len({run.name for run in runs}) == len(runs) > 1
        configs = [config_of(fusion_data, run) for run in runs]
        assert len({config.to_json() for config in configs}) == len(configs)

    def test_trains_at_sites_of_the_roster_and_asks_all_of_them(self, fusion_data, protocol):
        for run in self.runs(fusion_data, protocol):
            config = config_of(fusion_data, run)
            # Patients were assigned already.
            assert config.federation.partition is Partition.HOSPITAL
            assert set(config.federation.sites) <= set(read_roster(config.data).values())
            assert config.federation.min_sites <= len(config.federation.sites)

    def test_trains_on_nobody_who_is_tested(self, fusion_data, protocol):
        """A patient is in the official test split, or in the fold or hospital that is left out, or is trained on."""
        frame = fusion_data.prepared.table.frame
        is_official_test = set(frame.loc[frame["split"] == "test", "patient_id"])
        for run in self.runs(fusion_data, protocol):
            config = config_of(fusion_data, run)
            roster = read_roster(config.data)
            trained = {patient for patient, site in roster.items() if site in config.federation.sites}
            trained -= is_official_test
            rows = frame[~frame["patient_id"].isin(trained)]
            # The test lesions are some of the rows of those who are not trained on.
            tested = holdout_rows(config).groupby(["site", "pathology", "view"]).size()
            others = rows.assign(site=rows["patient_id"].map(fusion_data.roster)).groupby(["site", "pathology", "view"])
            assert (tested <= others.size().reindex(tested.index, fill_value=0)).all()


class TestBaselines:
    def test_pool_all_patients_at_one_site(self, fusion_data):
        runs = {run.name: run for run in PROTOCOLS["baselines"](fusion_data)}
        config = config_of(fusion_data, runs["centralised"])
        assert config.federation.sites == (CENTRAL,)
        roster = read_roster(config.data)
        assert set(roster) == set(fusion_data.roster)
        assert set(roster.values()) == {CENTRAL}

    def test_have_each_modality_by_itself_only_where_there_are_two(self, data, fusion_data):
        names = [run.name for run in PROTOCOLS["baselines"](data)]
        assert "image only" not in names
        assert [run.name for run in PROTOCOLS["baselines"](fusion_data)] == [*names, "image only", "clinical only"]

    def test_are_all_tested_on_the_same_lesions(self, fusion_data):
        configs = [config_of(fusion_data, run) for run in PROTOCOLS["baselines"](fusion_data)]
        assert {config.evaluation.holdout for config in configs} == {fusion_data.config.evaluation.holdout}
        assert {config.evaluation.public for config in configs} == {fusion_data.config.evaluation.public}


def test_the_epsilon_study_promises_what_its_names_say(data):
    first, *private = [(run.name, config_of(data, run)) for run in epsilon(data)]
    assert (first[0], first[1].privacy.mode) == ("no privacy", PrivacyMode.OFF)
    assert [config.privacy.target_epsilon for _, config in private] == list(TARGET_EPSILONS)
    assert [name for name, _ in private] == [f"epsilon {target:g}" for target in TARGET_EPSILONS]


def test_one_site_is_no_federation_to_study(data):
    federation = dataclasses.replace(data.config.federation, sites=("MGH",), min_sites=1)
    prepared = dataclasses.replace(data.prepared, config=dataclasses.replace(data.config, federation=federation))
    with pytest.raises(ConfigError, match="two sites or more"):
        StudyData.from_prepared(prepared)


def test_data_without_a_roster_are_no_federation_to_study(data):
    with pytest.raises(ConfigError, match=r"and data\.roster, for a study"):
        StudyData.from_prepared(dataclasses.replace(data.prepared, roster=None))
