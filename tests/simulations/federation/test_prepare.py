"""Preparing a federation: what it refuses, before any training, and what it writes."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from client.data.splits import Role
from client.data.tables.site_table import read_roster, site_table
from server.evaluation.predictions import read_attributes
from shared_model.config.composition import compose
from shared_model.data.lesions import Lesions
from shared_model.errors import CohortError, ConfigError, DataError, PrivacyError, RejectLimitError
from shared_model.reference.reference_file import SHIPPED_FILE, read_reference
from simulations.federation import prepare as module
from simulations.federation.prepare import prepare


@pytest.fixture
def run(clinical):
    """Prepare a federation on clinical columns, with more overrides."""

    def start(*more, on_progress=lambda *_: None):
        return prepare(compose(clinical(*more)), on_progress=on_progress)

    return start


@pytest.fixture
def copied(clinical_phantom, tmp_path):
    """A copy of the tables that a test may change."""
    return Path(shutil.copytree(clinical_phantom.root, tmp_path / "copy"))


def change_tables(root, change):
    """Replace every row of every case description by what ``change`` returns for it."""
    for path in root.glob("*_case_description_*.csv"):
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        pd.DataFrame([change(row) for row in frame.to_dict("records")]).to_csv(path, index=False)


class TestRefuses:
    @pytest.mark.parametrize(
        ("overrides", "kind", "message"),
        [
            (["data.root=/no/such/folder"], ConfigError, "Expected data.root=/no/such/folder to exist"),
            (["data.roster=null"], ConfigError, "Expected data.roster to say whose patient is whose, or one site"),
            (["data.roster=/no/such.csv"], DataError, "such.csv"),
            (
                ["federation.sites=[MGH,NOWHERE]"],
                CohortError,
                "Expected patients of site NOWHERE in sites.csv, got none; it names ISMD, MGH, WFU",
            ),
            (
                ["privacy.cohort_rounding=1000"],
                PrivacyError,
                "Site MGH: Expected num_patients=[0-9]+ >= cohort_rounding=1000",
            ),
            (
                ["federation.partition=iid", f"federation.sites=[{','.join(f'S{i}' for i in range(90))}]"],
                ConfigError,
                "Expected at least as many patients as sites, got 80 for 90 sites",
            ),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_a_configuration_that_does_not_fit_the_data(self, run, overrides, kind, message):
        with pytest.raises(kind, match=message):
            run(*overrides)

    def test_a_site_with_one_class(self, run, copied):
        roster = pd.read_csv(copied / "sites.csv").set_index("patient_id")["institution"]
        change_tables(copied, lambda row: row | ({"pathology": "BENIGN"} if roster[row["patient_id"]] == "WFU" else {}))
        with pytest.raises(CohortError, match=r"Site WFU: Expected train patients of both classes, got .* all benign"):
            run(f"data.root={copied}")

    def test_too_many_rejected_rows_after_it_has_listed_them(self, run, copied, tmp_path):
        change_tables(copied, lambda row: row | {"pathology": "PERHAPS"})
        with pytest.raises(RejectLimitError, match=r"Expected rejected rows 142 of 142 .* pathology='PERHAPS'"):
            run(f"data.root={copied}")
        for site in ("MGH", "WFU", "ISMD"):
            rejects = pd.read_csv(tmp_path / "run" / "sites" / site / "rejects.csv")
            assert (rejects["reason"].str.contains("pathology='PERHAPS'")).sum() > 10

    def test_a_folder_that_is_no_phantom(self, copied, clinical):
        with pytest.raises(DataError, match=r"to be absent, an empty folder, or the phantom"):
            prepare(compose(clinical(f"data.root={copied}", "phantom.num_patients=80")), on_progress=lambda *_: None)


class TestWrites:
    def test_how_many_patients_and_lesions_every_site_has_in_each_role(self, run, clinical_phantom, tmp_path):
        prepared = run()
        roster = pd.read_csv(clinical_phantom.root / "sites.csv").set_index("patient_id")["institution"]
        counts = {
            site: pd.read_csv(tmp_path / "run" / "sites" / site / "patients.csv").set_index("role")
            for site in ("MGH", "WFU", "ISMD")
        }
        for role in Role:
            for column, expected in (("patients", prepared.num_patients), ("lesions", prepared.num_lesions)):
                assert sum(count[column].get(role, 0) for count in counts.values()) == expected[role]
        patients = prepared.table.frame["patient_id"].unique()
        for site, count in counts.items():
            assert count["patients"].sum() == (roster[patients] == site).sum()

    def test_the_servers_test_lesions_with_what_describes_them(self, run, clinical_phantom):
        prepared = run()
        path = Path(prepared.config.evaluation.holdout)
        lesions = Lesions.load(path)
        attributes = read_attributes(path, len(lesions))
        frame = prepared.table.frame
        rows = frame[frame["split"] == "test"]
        assert len(lesions) == len(rows) == prepared.num_lesions[Role.TEST]
        np.testing.assert_array_equal(lesions.labels.numpy(), rows["label"])
        roster = pd.read_csv(clinical_phantom.root / "sites.csv").set_index("patient_id")["institution"]
        assert list(attributes["site"]) == list(roster[rows["patient_id"]])

    def test_the_servers_public_lesions_only_where_there_are_public_patients(self, run):
        assert len(Lesions.load(Path(run().config.evaluation.public))) > 0
        without = run("data.public_fraction=0", "data.validation_fraction=0.3")
        assert without.config.evaluation.public is None
        assert without.num_patients[Role.PUBLIC] == 0

    def test_nothing_in_place_of_files_that_the_configuration_names(self, run):
        first = run().config.evaluation
        again = run(f"evaluation.holdout='{first.holdout}'", f"evaluation.public='{first.public}'")
        assert again.config.evaluation == first

    def test_equal_files_once(self, run, clinical_phantom):
        run()
        files = {path: path.stat().st_mtime_ns for path in (clinical_phantom.cache / "simulated").iterdir()}
        run("model.hidden_width=8")
        assert {path: path.stat().st_mtime_ns for path in (clinical_phantom.cache / "simulated").iterdir()} == files

    @pytest.mark.parametrize("overrides", [[], ["federation.partition=iid", "federation.sites=[A,B]"]], ids=" ".join)
    def test_a_roster_in_which_public_patients_belong_to_nobody(self, run, clinical_phantom, overrides):
        prepared = run(*overrides)
        roster, sites = read_roster(prepared.config.data), prepared.config.federation.sites
        everybody = pd.read_csv(clinical_phantom.root / "sites.csv")["patient_id"]
        assert set(roster) < set(everybody)
        assert len(set(everybody) - set(roster)) == prepared.num_patients[Role.PUBLIC] > 0
        assert set(roster.values()) == set(sites)
        seen = [site_table(prepared.config, site).frame["patient_id"] for site in sites]
        assert sum(patients.nunique() for patients in seen) == len(roster)

    def test_a_roster_with_the_public_patients_for_studies(self, run, clinical_phantom):
        assert run().roster == "sites.csv"
        prepared = run("federation.partition=iid", "federation.sites=[A,B,C,D]")
        whole = read_roster(dataclasses.replace(prepared.config.data, roster=prepared.roster))
        assert set(whole) == set(pd.read_csv(clinical_phantom.root / "sites.csv")["patient_id"])
        assert set(whole.values()) == {"A", "B", "C", "D"}

    def test_no_roster_where_nobody_is_public(self, run):
        assert run("data.public_fraction=0", "data.validation_fraction=0.3").config.data.roster == "sites.csv"

    def test_one_site_without_a_roster_holds_everybody(self, run, tmp_path):
        prepared = run("data.roster=null", "federation.sites=[ONE]", "federation.min_sites=1")
        counts = pd.read_csv(tmp_path / "run" / "sites" / "ONE" / "patients.csv")
        assert counts["patients"].sum() == prepared.table.frame["patient_id"].nunique()


def test_the_seed_fixes_the_partition_and_another_one_changes_it(run):
    partition = ("federation.partition=label_skew", "federation.sites=[A,B]", "federation.concentration=5")
    first, again, other = (run(*partition, f"seed={seed}").config.data.roster for seed in (1, 1, 2))
    assert first == again != other


def test_progress_is_told(run, tmp_path):
    steps = []
    overrides = [f"data.root={tmp_path / 'phantom'}", "phantom.num_patients=12", "privacy.cohort_rounding=1"]
    run(*overrides, on_progress=lambda *step: steps.append(step))
    assert steps == [("phantom", number, 12) for number in range(1, 13)]


@pytest.fixture
def partitions(monkeypatch):
    """Assign everybody to one site as often as ``num_bad`` says, then as the real function does."""
    real = module.assign_sites

    class Partitions(list):
        num_bad = 0

    drawn = Partitions()

    def assign(frame, sites, **options):
        roster = real(frame, sites, **options)
        drawn.append(roster)
        return dict.fromkeys(roster, sites[0]) if len(drawn) <= drawn.num_bad else roster

    monkeypatch.setattr(module, "assign_sites", assign)
    return drawn


class TestAPartitionThatLeavesASiteUnableToTrain:
    def test_is_drawn_again(self, run, partitions):
        partitions.num_bad = 2
        prepared = run("federation.partition=iid")
        assert len(partitions) == 3
        assert read_roster(dataclasses.replace(prepared.config.data, roster=prepared.roster)) == partitions[2]
        assert partitions[1] != partitions[2]

    def test_is_an_error_when_there_is_no_other(self, run, partitions):
        partitions.num_bad = 10**6
        with pytest.raises(CohortError, match=r"Site WFU: Expected number of train patients=0 > 0"):
            run("federation.partition=iid")
        assert len(partitions) == 100


class TestPatientsOfShippedConstants:
    CONFIG = ("preset=few_patients", "data.root=.", "run.dir=unused", "data.source=manifest")

    @pytest.mark.parametrize(
        "spelling",
        [
            "{}",
            " {} ",
            "p_{:d}",
            "Mass-Training_{}",
            "Mass-Training_{}_LEFT_CC",
            "mass-training_{}_left_cc_1",
            "Calc-Test_{}_RIGHT_MLO",
        ],
    )
    def test_a_manifest_over_them_is_refused_however_it_spells_them(self, spelling):
        name = read_reference(SHIPPED_FILE).facts.patients[0]
        patient = spelling.format(int(name.removeprefix("P_")) if ":d" in spelling else name)
        table = SimpleNamespace(frame=pd.DataFrame({"patient_id": [patient, "somebody"]}))
        with pytest.raises(ConfigError, match="other patients than the run's, 1 are among those of the file"):
            module._check_other_patients(compose([*self.CONFIG]), table)

    def test_others_are_not(self):
        table = SimpleNamespace(frame=pd.DataFrame({"patient_id": ["P_99999", "Mass-Training_P_99999_LEFT_CC", "1"]}))
        module._check_other_patients(compose([*self.CONFIG]), table)
