"""The table that simulated sites share, against each of them reading it alone."""

import dataclasses

import pandas as pd
import pytest

from client.data.tables import shared_table
from client.data.tables import site_table as site_table_module
from client.data.tables.lesion_schema import LESION_SCHEMA
from client.data.tables.lesion_table import SET_ASIDE
from client.data.tables.shared_table import SharedTable
from client.data.tables.site_table import site_table
from shared_model.config.composition import compose
from shared_model.errors import ConfigError


@pytest.fixture
def config(hospital):
    return compose(hospital.overrides())


def with_roster(config, hospital, rows):
    text = "patient_id,site\n" + "".join(f"{patient},{site}\n" for patient, site in rows)
    (hospital.manifest.parent / "roster.csv").write_text(text)
    return dataclasses.replace(config, data=dataclasses.replace(config.data, roster="roster.csv"))


def require_equal(found, expected):
    for name in ("frame", *SET_ASIDE):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name))
    assert (found.respelt, found.contested) == (expected.respelt, expected.contested)


def test_without_a_roster_all_rows_are_the_sites(config):
    require_equal(SharedTable.read(config).of("HOME"), site_table(config, "HOME"))


@pytest.mark.parametrize("is_odd", [False, True])
def test_every_site_has_what_it_would_read_alone(config, hospital, is_odd):
    """Also where rows are rejected, a patient is spelt in two ways, and others are at two sites, at none or unknown."""
    frame = pd.read_csv(hospital.manifest, dtype=str, keep_default_na=False)
    patients = list(frame["patient_id"].unique())
    rows = [(patient, ("HOME", "AWAY", "FAR")[number % 3]) for number, patient in enumerate(patients)]
    if is_odd:
        frame.loc[frame["patient_id"] == patients[3], "label"] = "7"
        frame.loc[frame.index % 5 == 0, "breast_density"] = "unclear"
        frame.loc[frame.index == 1, "patient_id"] = f" {patients[0].lower()}"
        frame.loc[frame["patient_id"] == patients[4], "patient_id"] = "unknown"
        frame.loc[frame["patient_id"] == patients[5], "split"] = "dev"
        frame.to_csv(hospital.manifest, index=False)
        rows = [*rows[:7], (patients[7], "(none)"), (patients[8], ""), *rows[10:], (patients[0], "AWAY")]
    config = with_roster(config, hospital, rows)
    shared = SharedTable.read(config)
    for site in ("HOME", "AWAY", " far", "NOWHERE"):
        require_equal(shared.of(site), site_table(config, site))


def test_files_are_read_once(config, hospital, monkeypatch):
    patients = pd.read_csv(hospital.manifest)["patient_id"].unique()
    config, read = with_roster(config, hospital, [(patient, "HOME") for patient in patients]), []
    for name in ("shared_table", "read_homes"):
        original = getattr(shared_table, name)
        monkeypatch.setattr(shared_table, name, lambda of, original=original: read.append(1) or original(of))
    shared = SharedTable.read(config)
    assert len(shared.of("HOME").frame) == 40
    assert len(shared.of("AWAY").frame) == 0
    assert len(read) == 2


def test_a_missing_table(config):
    gone = dataclasses.replace(config, data=dataclasses.replace(config.data, root="/no/such/manifest.csv"))
    with pytest.raises(ConfigError, match=r"data\.root=/no/such/manifest\.csv"):
        SharedTable.read(gone)


def test_rows_are_checked_once_for_all_sites(config, hospital, monkeypatch):
    patients, checked = pd.read_csv(hospital.manifest)["patient_id"].unique(), []
    config = with_roster(config, hospital, [(patient, f"site-{i % 5}") for i, patient in enumerate(patients)])
    validate = LESION_SCHEMA.validate

    def counted(frame):
        checked.append(len(frame))
        return validate(frame)

    monkeypatch.setattr(LESION_SCHEMA, "validate", counted)
    monkeypatch.setattr(site_table_module, "_SHARED", [])
    shared = SharedTable.read(config)
    parts = [shared.of(f"site-{i}").frame for i in range(5)]
    assert sum(map(len, parts)) == checked[0] > 0
    assert len(checked) == 1
