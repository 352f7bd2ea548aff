"""Images of a table to network input: computed once, kept by content, and a broken file costs its own row only."""

import dataclasses
import hashlib
import os
import threading

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch

from client.data import network_inputs
from client.data.images import LesionFiles, load_lesion
from client.data.network_inputs import lesion_files, load_network_inputs
from client.data.preprocessing import Box
from client.data.tables.cells import BOX_COLUMNS
from client.data.tables.site_table import site_table
from shared_model.config import compose
from shared_model.config.choices import FeatureEngine
from shared_model.errors import ConfigError, DicomError
from shared_model.network import openvino_encoder
from shared_model.network.backbone import frozen_features
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.vocabulary import Laterality, View


@pytest.fixture
def config(hospital):
    """Pixels, which need no encoder."""
    return compose(hospital.overrides("model.backbone=small_cnn"))


@pytest.fixture
def frame(config):
    return site_table(config, "HOME").frame


def load(frame, config, report=lambda *_: None):
    return load_network_inputs(frame, config, report)


def equal(first, second):
    return np.array_equal(first.images, second.images) and np.array_equal(first.has_image, second.has_image)


@pytest.fixture
def computed(monkeypatch):
    """The lesions whose images are read, as they are read."""
    calls = []

    def noted(files, image):
        calls.append(files)
        return load_lesion(files, image)

    monkeypatch.setattr(network_inputs, "load_lesion", noted)
    return calls


class TestValues:
    def test_pixels_are_those_of_the_lesion(self, frame, config):
        inputs = load(frame, config)
        assert inputs.images.shape == (40, 1, 32, 32)
        assert inputs.images.dtype == np.float32
        assert inputs.problems == {}
        for row, files in enumerate(lesion_files(frame, config)):
            assert inputs.has_image[row] == bool(files.lesion_paths)
            expected = load_lesion(files, config.data.image) if files.lesion_paths else np.zeros((32, 32))
            np.testing.assert_array_equal(inputs.images[row, 0], expected)

    def test_a_frozen_backbone_gives_its_features(self, hospital):
        config = compose(hospital.overrides())
        frame = site_table(config, "HOME").frame.iloc[:3].reset_index(drop=True)
        inputs = load(frame, config)
        assert inputs.images.shape == (3, FEATURE_WIDTH)
        pixels = torch.from_numpy(load_lesion(lesion_files(frame, config)[0], config.data.image))[None, None]
        expected = frozen_features(pixels, config.model.backbone, FeatureEngine.TORCH)[0].numpy()
        np.testing.assert_array_equal(inputs.images[0], expected)
        assert not inputs.images[2].any()
        assert inputs.has_image.tolist() == [True, True, False]

    def test_clinical_columns_alone_need_no_image_and_no_cache(self, frame, config, hospital, computed):
        config = dataclasses.replace(config, model=compose(hospital.overrides("model.modality=clinical")).model)
        inputs = load(frame, config)
        assert inputs.images.shape == (40, 0)
        assert not inputs.has_image.any()
        assert computed == []
        assert not hospital.cache.exists()

    def test_no_rows(self, frame, config):
        inputs = load(frame.iloc[:0], config)
        assert inputs.images.shape == (0, 1, 32, 32)
        assert inputs.has_image.shape == (0,)


class TestCache:
    def test_features_of_two_engines_never_mix(self, hospital):
        configs = {engine: compose(hospital.overrides(f"model.feature_engine={engine}")) for engine in FeatureEngine}
        frame = site_table(configs[FeatureEngine.TORCH], "HOME").frame.iloc[:2].reset_index(drop=True)
        images = {engine: load(frame, config).images for engine, config in configs.items()}
        for engine, config in configs.items():
            np.testing.assert_array_equal(load(frame, config).images, images[engine])
        by_torch, by_openvino = images.values()
        assert not np.array_equal(by_torch, by_openvino)
        np.testing.assert_allclose(by_openvino, by_torch, rtol=0, atol=1e-5 * np.linalg.norm(by_torch[0]))
        assert len(list((hospital.cache / "images").glob("*/entries"))) == 2

    def test_an_engine_that_is_missing_fails_before_an_image_is_read(self, hospital, computed, monkeypatch):
        monkeypatch.setattr(openvino_encoder, "find_spec", lambda name: None)
        config = compose(hospital.overrides("model.feature_engine=openvino", "data.image.size=33"))
        frame = site_table(config, "HOME").frame.iloc[:2].reset_index(drop=True)
        with pytest.raises(ConfigError, match=r"Expected onnx and openvino for model.feature_engine=openvino"):
            load(frame, config)
        assert computed == []

    def test_what_is_there_is_not_computed_again(self, frame, config, computed):
        first = load(frame, config)
        assert len(computed) == 30
        computed.clear()
        assert equal(load(frame, config), first)
        assert computed == []

    def test_rows_of_the_same_image_are_computed_once(self, frame, config, computed):
        twice = pd.concat([frame, frame], ignore_index=True)
        inputs = load(twice, config)
        assert len(computed) == 30
        np.testing.assert_array_equal(inputs.images[:40], inputs.images[40:])

    def test_the_name_of_a_file_does_not_matter(self, frame, config, hospital, computed):
        first = load(frame, config)
        names = {}
        for path in hospital.manifest.parent.glob("*-*.*"):
            names[path.name] = f"renamed-{len(names)}{path.suffix}"
            path.rename(path.with_name(names[path.name]))
        renamed = frame.assign(lesion_paths=[tuple(names[path] for path in paths) for paths in frame["lesion_paths"]])
        computed.clear()
        assert equal(load(renamed, config), first)
        assert computed == []

    @pytest.mark.parametrize("column", ["laterality", "box"])
    def test_what_the_table_says_of_the_image_counts(self, frame, config, computed, column):
        load(frame, config)
        computed.clear()
        if column == "laterality":
            changed = frame.assign(laterality=pd.Series(["RIGHT"] * len(frame), dtype=frame["laterality"].dtype))
        else:
            boxes = {name: pd.Series([1] * len(frame), dtype="Int64") for name in BOX_COLUMNS}
            changed = frame.assign(**boxes)
        load(changed, config)
        assert len(computed) == 30

    def test_an_interrupted_call_goes_on_where_it_stopped(self, frame, config, computed, monkeypatch):
        monkeypatch.setattr(network_inputs, "_SHARD_ROWS", 8)

        def stop(done, total):
            if done == 10 + 16:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            load(frame, config, stop)
        computed.clear()
        load(frame, config)
        # Ten rows have no image; two shards of eight were complete.
        assert len(computed) == 30 - 16

    def test_a_call_that_is_interrupted_while_files_are_read_reads_the_others_only(self, frame, config, monkeypatch):
        monkeypatch.setattr(network_inputs, "_DIGESTED_ROWS", 16)
        monkeypatch.setattr(network_inputs, "_SHARD_ROWS", 4)
        read = []
        digest = hashlib.file_digest
        monkeypatch.setattr(hashlib, "file_digest", lambda *file: read.append(1) or digest(*file))

        def stop(done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            load(frame, config, stop)
        assert len(read) == 12
        load(frame, config)
        assert len(read) == 30

    def test_progress_begins_with_what_is_there_and_ends_with_all(self, frame, config):
        load(frame.iloc[:20], config)
        calls = []
        load(frame, config, lambda done, total: calls.append((done, total)))
        # Rows without an image count as done.
        assert calls[0] == (20 + 5, 40)
        assert calls[-1] == (40, 40)


class TestWork:
    def test_images_of_few_grey_levels_are_told_to_the_site(self, frame, config, hospital, caplog):
        """12 bits of data that claim 16: under full_range the network sees black."""
        paths = [lesion_files(frame, config)[row].lesion_paths[0] for row in (1, 5)]
        for seed, path in enumerate(paths):
            cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 4096, (40, 40)).astype(np.uint16))
        load(frame, config)
        (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
        assert record.getMessage().startswith("2 of 30 images use under a tenth of their grey levels")
        assert "data.image.normalisation=percentile" in record.getMessage()
        assert paths[0].name in record.getMessage() or paths[1].name in record.getMessage()

    def test_with_percentiles_they_are_like_others(self, frame, hospital, caplog):
        config = compose(hospital.overrides("model.backbone=small_cnn", "data.image.normalisation=percentile"))
        path = lesion_files(frame, config)[1].lesion_paths[0]
        cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 4096, (40, 40)).astype(np.uint16))
        load(frame, config)
        assert not caplog.records

    def test_no_more_pixels_than_are_allowed_are_at_work(self, frame, config, monkeypatch):
        lock, at_work, most = threading.Lock(), [], []

        def noted(files, image):
            with lock:
                at_work.append(files)
                most.append(len(at_work))
            pixels = load_lesion(files, image)
            with lock:
                at_work.remove(files)
            return pixels

        monkeypatch.setattr(network_inputs, "load_lesion", noted)
        monkeypatch.setattr(network_inputs, "MAX_PIXELS", 3 * 40 * 40 - 1)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
        load(frame, config)
        assert len(most) == 30
        assert max(most) <= 2

    def test_as_many_threads_as_cores_that_this_process_may_use(self, frame, config, monkeypatch):
        counts, pool = [], network_inputs.ThreadPoolExecutor
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
        monkeypatch.setattr(network_inputs, "ThreadPoolExecutor", lambda count: counts.append(count) or pool(count))
        load(frame, config)
        assert counts == [1]


class TestProblems:
    def test_a_damaged_file_costs_its_own_row_and_is_tried_again(self, frame, config, hospital, computed):
        whole = load(frame, config)
        row = int(np.flatnonzero(whole.has_image)[3])
        path = lesion_files(frame, config)[row].lesion_paths[0]
        content = path.read_bytes()
        path.write_bytes(b"damaged")
        inputs = load(frame, config)
        assert list(inputs.problems) == [row]
        assert path.name in inputs.problems[row]
        assert not inputs.has_image[row]
        assert not inputs.images[row].any()
        others = np.arange(len(frame)) != row
        np.testing.assert_array_equal(inputs.images[others], whole.images[others])
        computed.clear()
        assert list(load(frame, config).problems) == [row]
        assert len(computed) == 1
        path.write_bytes(content)
        assert equal(load(frame, config), whole)

    def test_all_rows_of_a_damaged_file_have_the_problem(self, frame, config, monkeypatch):
        def fail(*_):
            raise DicomError("broken")

        monkeypatch.setattr(network_inputs, "load_lesion", fail)
        inputs = load(pd.concat([frame, frame], ignore_index=True), config)
        assert len(inputs.problems) == 60
        assert set(inputs.problems.values()) == {"broken"}

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda path: path.touch(), "Expected an image, got an empty file (0 bytes); copy or export it again."),
            (os.mkdir, "Expected a file, got a folder."),
            (os.mkfifo, "Expected a file, got a pipe."),
            (lambda path: path.symlink_to("/dev/zero"), "Expected a file, got a device."),
        ],
    )
    def test_what_is_no_image_file_is_not_even_read(self, frame, config, make, message):
        paths = [lesion_files(frame, config)[row].lesion_paths[0] for row in (0, 1)]
        for path in paths:
            path.unlink()
            make(path)
        assert load(frame, config).problems == {row: f"{path}: {message}" for row, path in enumerate(paths)}

    def test_a_png_on_which_opencv_fails_costs_its_own_row(self, frame, config, monkeypatch):
        def fail(*_):
            raise cv2.error("assertion")

        monkeypatch.setattr(cv2, "imdecode", fail)
        problems = load(frame, config).problems
        assert set(problems) == set(range(1, 40, 4))
        assert problems[1].endswith(".png: Expected a PNG file that can be decoded, got error.")

    def test_a_file_that_is_gone_says_so_without_its_folder(self, frame, config):
        path = lesion_files(frame, config)[0].lesion_paths[0]
        path.unlink()
        assert load(frame, config).problems == {0: "image cannot be read: No such file or directory"}


def test_files_of_a_row(frame, config, hospital):
    folder = hospital.manifest.parent
    row = frame.iloc[:1].assign(
        film_path=pd.Series(["film.dcm"], dtype=frame["film_path"].dtype),
        **{name: pd.Series([number], dtype="Int64") for number, name in enumerate(BOX_COLUMNS)},
    )
    row["roi_w"] = pd.Series([5], dtype="Int64")
    (files,) = lesion_files(row, config)
    assert files == LesionFiles(
        lesion_paths=(folder / frame["lesion_paths"].iloc[0][0],),
        film_path=folder / "film.dcm",
        box=Box(x=0, y=1, width=5, height=3),
        laterality=Laterality.LEFT,
        view=View.CC,
    )
    unseen = frame.iloc[2:3].assign(view=pd.Series([None], index=[2], dtype=frame["view"].dtype))
    assert lesion_files(unseen, config) == [
        LesionFiles(lesion_paths=(), film_path=None, box=None, laterality=Laterality.LEFT, view=None)
    ]


class TestWhatIsSaid:
    def test_every_row_names_its_own_file_where_files_have_the_same_content(self, frame, config):
        files = lesion_files(frame, config)
        paths = [files[row].lesion_paths[0] for row in (0, 3, 4)]
        for path in paths:
            path.write_bytes(b"no image")
        problems = load(frame, config).problems
        assert sorted(problems) == [0, 3, 4]
        assert [str(path) in problems[row] for row, path in zip(sorted(problems), paths, strict=True)] == [True] * 3
        assert sum(str(paths[0]) in problem for problem in problems.values()) == 1

    def test_another_view_of_the_table_is_no_hit_in_the_cache(self, frame, config):
        """The cache would else hand out what was read for a row that agrees with its file."""
        load(frame, config)
        path = lesion_files(frame, config)[0].lesion_paths[0]
        dataset = pydicom.dcmread(path)
        dataset.ViewPosition = "CC"
        dataset.save_as(path)
        assert load(frame, config).problems == {}
        changed = frame.assign(view=frame["view"].mask(frame.index == 0, "MLO"))
        assert list(load(changed, config).problems.values()) == [f"{path}: Expected view=CC == MLO of the table."]
