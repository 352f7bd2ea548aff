"""Rosters and lesions under names of their content."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from client.data.tables.site_table import read_roster
from server.evaluation.predictions import read_attributes
from shared_model.config.composition import compose
from shared_model.data.lesions import Lesions
from simulations.federation.server_files import (
    site_of_rows,
    write_public_lesions,
    write_roster,
    write_test_lesions,
)

LESIONS = Lesions(
    images=torch.arange(6.0).reshape(3, 2),
    has_image=torch.tensor([True, True, False]),
    clinical=torch.zeros(3, 1),
    labels=torch.tensor([0.0, 1.0, 1.0]),
    patients=torch.tensor([0, 0, 1]),
)
FRAME = pd.DataFrame(
    {
        "patient_id": ["P1", "P1", "P2"],
        "breast_density": ["1", "2", None],
        "laterality": ["LEFT", "RIGHT", "LEFT"],
        "view": ["CC", "CC", "MLO"],
        "abnormality_type": ["mass", "mass", "mass"],
        "subtlety": ["4", "4", "5"],
        "assessment": ["3", "4", "5"],
        "pathology": ["BENIGN", "MALIGNANT", "MALIGNANT"],
    }
)


@pytest.fixture(scope="module")
def smoke_config():
    return compose(["preset=smoke", "data.root=unused", "run.dir=unused"])


def in_folder(config, folder, **changes):
    """Return the configuration with data and cache in ``folder``."""
    data = dataclasses.replace(config.data, root=str(folder), cache_dir=str(folder), **changes)
    return dataclasses.replace(config, data=data)


@pytest.fixture
def config(smoke_config, tmp_path):
    return in_folder(smoke_config, tmp_path)


NAMES = st.text(st.sampled_from("ABC123_-"), min_size=1, max_size=6)


@given(st.dictionaries(NAMES, NAMES, min_size=1, max_size=8))
def test_a_roster_is_read_as_it_was_written(smoke_config, tmp_path_factory, roster):
    folder = tmp_path_factory.mktemp("roster")
    path = write_roster(in_folder(smoke_config, folder), roster)
    assert read_roster(in_folder(smoke_config, folder, roster=path).data) == roster


def test_equal_content_is_one_file_and_other_content_another(config, tmp_path):
    first = write_roster(config, {"P1": "A", "P2": "B"})
    before = Path(first).stat()
    assert write_roster(config, {"P1": "A", "P2": "B"}) == first
    after = Path(first).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert write_roster(config, {"P1": "A", "P2": "A"}) != first
    assert len(list((tmp_path / "simulated").iterdir())) == 2


def test_test_lesions_stand_beside_what_describes_them(config):
    path = Path(write_test_lesions(config, LESIONS, FRAME, {"P1": "A", "P2": "B"}))
    stored = Lesions.load(path)
    assert torch.equal(stored.images, LESIONS.images)
    assert torch.equal(stored.patients, LESIONS.patients)
    attributes = read_attributes(path, 3)
    assert list(attributes["site"]) == ["A", "A", "B"]
    assert list(attributes["view"]) == ["CC", "CC", "MLO"]


def test_other_sites_of_the_same_lesions_are_another_file(config):
    first = write_test_lesions(config, LESIONS, FRAME, {"P1": "A", "P2": "B"})
    assert write_test_lesions(config, LESIONS, FRAME, {"P1": "A", "P2": "A"}) != first


def test_public_lesions_have_no_attributes(config, tmp_path):
    path = Path(write_public_lesions(config, LESIONS))
    assert torch.equal(Lesions.load(path).labels, LESIONS.labels)
    assert [one.name for one in (tmp_path / "simulated").iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("roster", "sites"), [({"P1": "A", "P2": "B"}, ["A", "A", "B"]), (None, ["MGH", "MGH", "MGH"])]
)
def test_without_a_roster_all_rows_belong_to_the_first_site(config, roster, sites):
    assert list(site_of_rows(config, roster, FRAME)) == sites
