"""Nobody's lesions change with another patient: whatever stands in a table, each patient's rows are hers alone.

It is what makes one patient's removal move a sum over patients by her own part and nothing else. Reading, checking,
joining duplicates, encoding, caching, averaging views and dealing roles are all in between.
"""

import csv
import dataclasses
import functools
import itertools
import os

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import client.data.image_cache
import client.data.network_inputs
from client.data.splits import Role
from client.data.tables.site_table import site_table
from client.identifiers import folded_or_none
from client.site import SiteData
from shared_model.config import compose
from shared_model.network.efficientnet import FEATURE_WIDTH

SECRET = bytes(range(32))
MAX_EXAMPLES = int(os.environ.get("LAW_EXAMPLES", "500")) // 10
NOBODY = "nobody"
USUAL = {
    "patient_id": ["P1", "p1", "P01", " P1\u200b", "P2", "P2", "P3"],
    "lesion_id": ["", "L1", "L1", "L2"],
    "finding_id": ["", "f1", "f1", "f2"],
    "label": ["0", "1", "1.0", "MALIGNANT"],
    "split": ["train", "train", "train", "test"],
    "breast_density": ["1", "4", "2.0", ""],
    "laterality": ["LEFT", "RIGHT", ""],
    "view": ["CC", "MLO", "cc"],
    "abnormality_type": ["mass", "calcification"],
    "mass_shape": ["OVAL", "OVAL-ROUND", "ROUND-OVAL", ""],
    "roi_x": [""],
    "roi_y": [""],
    "roi_w": [""],
    "roi_h": [""],
    "image_path": ["", "a.png", "b.png", "copy.png"],
}
ODD = {
    "patient_id": ["unknown", "", "1.23E+11", "P\n3", "x" * 300, "Ⅱ"],
    "lesion_id": ["P1-x"],
    "label": ["7", ""],
    "split": ["dev"],
    "breast_density": ["9", "²", "9" * 5000],
    "laterality": ["BOTH"],
    "mass_shape": ["SQUARE"],
    "roi_x": ["1", "²", "٣", "9" * 12],
    "roi_h": ["20"],
    "image_path": ["broken.png", "none.png", "../a.png", "x" * 999],
}
"""Cells that no reader expects."""
CELLS = st.builds(
    lambda usual, odd: usual | odd,
    st.fixed_dictionaries({name: st.sampled_from(cells) for name, cells in USUAL.items()}),
    st.one_of(
        st.just({}),
        st.just({}),
        st.sampled_from([{name: cell} for name, cells in ODD.items() for cell in cells]),
    ),
)
ROWS = st.lists(st.tuples(CELLS, st.sampled_from([0] * 9 + [1, -1])), min_size=2, max_size=9)
"""A row of the manifest, and how many cells it has too many."""
COLUMNS = list(USUAL)


def write_manifest(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for cells, num_extra in rows:
            values = [*(cells[name] for name in COLUMNS), "extra"]
            writer.writerow(values[: len(cells) + num_extra])


def owner(row):
    """Whose a row is; a row whose cells cannot be told apart is nobody's."""
    cells, num_extra = row
    folded = folded_or_none(cells["patient_id"])
    return NOBODY if num_extra or folded is None else folded


def lesions_by_patient(*configs):
    """Every patient's lesions as bytes, with the role that she has, under every configuration of one table."""
    table = site_table(configs[0], "HOME")
    found = {}
    for number, config in enumerate(configs):
        data = SiteData(config=config, table=table, role_secret=SECRET, validation_fraction=0.3)
        for role in Role:
            for patient in data.patients(role):
                lesions = data.lesions(role, lambda other, patient=patient: other == patient)
                assert lesions.num_patients <= 1
                fields = (lesions.images, lesions.has_image, lesions.clinical, lesions.labels)
                contents = (role, len(lesions), *(field.numpy().tobytes() for field in fields))
                found.setdefault(folded_or_none(patient), {})[number] = contents
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(folder / name), generator.integers(0, 256, (40, 40)).astype(np.uint8))
    (folder / "copy.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:100])
    return folder


@pytest.fixture(scope="module", autouse=True)
def features():
    """A backbone that costs nothing."""
    weights = torch.from_numpy(np.random.default_rng(1).normal(size=(32 * 32, FEATURE_WIDTH)).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.data.network_inputs, "frozen_features", lambda pixels, *_: pixels.flatten(1) @ weights)
        yield


def config_of(folder, *more):
    return compose(
        [
            "preset=smoke",
            "phantom.num_patients=null",
            "data.source=manifest",
            f"data.root={folder / 'manifest.csv'}",
            "data.roster=null",
            f"data.cache_dir={folder / 'cache'}",
            f"run.dir={folder / 'run'}",
            "data.image.size=32",
            "data.validation_fraction=0.3",
            "model.image_components=0",
            "federation.sites=[HOME]",
            "federation.min_sites=1",
            *more,
        ]
    )


@functools.cache
def configs_in(folder):
    """One of every way to choose columns and views, which the reading of a table knows nothing of."""
    return tuple(
        config_of(folder, f"data.views={views}", f"data.features={features}")
        for views, features in itertools.product(("own", "all"), ("safe", "descriptors"))
    )


@pytest.mark.slow
@settings(max_examples=MAX_EXAMPLES)
@given(rows=ROWS, seed=st.integers(0, 1000))
def test_removing_a_patient_leaves_everybody_else_as_they_were(folder, rows, seed):
    everybody = sorted({owner(row) for row in rows})
    cache = str(folder / f"cache-{seed}")
    configs = [
        dataclasses.replace(config, data=dataclasses.replace(config.data, cache_dir=cache))
        for config in configs_in(folder)
    ]
    write_manifest(folder / "manifest.csv", rows)
    before = lesions_by_patient(*configs)
    for gone in everybody:
        write_manifest(folder / "manifest.csv", [row for row in rows if owner(row) != gone])
        after = lesions_by_patient(*configs)
        assert after == {patient: lesions for patient, lesions in before.items() if patient != gone}


def test_a_decoder_that_fails_in_an_unforeseen_way_is_one_patients_problem(folder, monkeypatch):
    rows = [
        ({**dict.fromkeys(COLUMNS, ""), "patient_id": name, "lesion_id": name, "label": "1", "split": "train",
          "image_path": image}, 0)
        for name, image in (("P1", "a.png"), ("P2", "b.png"))
    ]  # fmt: skip
    write_manifest(folder / "manifest.csv", rows)
    load = client.data.network_inputs.load_lesion

    def fails(files, image):
        if files.lesion_paths[0].name == "b.png":
            raise MemoryError
        return load(files, image)

    monkeypatch.setattr(client.data.network_inputs, "load_lesion", fails)
    config = config_of(folder, f"data.cache_dir={folder / 'fresh cache'}")
    found = lesions_by_patient(config)
    assert [found[name][0][1] for name in ("p1", "p2")] == [1, 0]
    assert site_table(config, "HOME").frame["patient_id"].tolist() == ["P1", "P2"]


def test_a_cache_that_cannot_be_written_changes_nothing(folder, monkeypatch):
    rows = [
        ({**dict.fromkeys(COLUMNS, ""), "patient_id": name, "lesion_id": name, "label": "1", "split": "train",
          "image_path": f"{name}.png"}, 0)
        for name in ("a", "b")
    ]  # fmt: skip
    write_manifest(folder / "manifest.csv", rows)
    written = lesions_by_patient(config_of(folder, f"data.cache_dir={folder / 'first'}"))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(client.data.image_cache.shutil, "disk_usage", full)
    monkeypatch.setattr(client.data.network_inputs.FileDigests, "save", full)
    assert lesions_by_patient(config_of(folder, f"data.cache_dir={folder / 'second'}")) == written
    assert not list((folder / "second").rglob("entries"))
