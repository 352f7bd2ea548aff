"""The synthetic data set: the real one's folders, tables and traps, the same bytes from the same seed."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from client.data.images import LesionFiles, load_lesion, read_image
from client.data.preprocessing import is_mask
from client.data.tables.cbis_ddsm import read_cbis_ddsm
from shared_model.config.choices import ImageMode
from shared_model.config.composition import compose
from shared_model.errors import DataError
from shared_model.vocabulary import LesionType
from simulations.commands.app import main
from simulations.phantom.write import MARKER, write_phantom

TYPES = tuple(LesionType)
ROOT = Path(__file__).parents[3]


def digests(root):
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def table(phantom):
    return read_cbis_ddsm(phantom, lesion_types=TYPES, image_mode=ImageMode.CROP)


def raw_rows(root):
    rows = []
    for path in sorted(root.glob("*_case_description_*.csv")):
        with path.open(newline="") as file:
            rows += list(csv.DictReader(file))
    return rows


class TestTables:
    def test_every_row_can_be_read(self, table):
        assert table.rejects.empty
        assert len(table.frame) > 40

    def test_overlapping_patients_leave_the_training_side(self, table):
        assert len(table.excluded) > 0

    def test_every_site_has_both_classes_and_no_patient_two_sites(self, phantom, table):
        sites = pd.read_csv(phantom / "sites.csv")
        assert not sites["patient_id"].duplicated().any()
        owner = dict(zip(sites["patient_id"], sites["institution"], strict=True))
        labels = table.frame.groupby(table.frame["patient_id"].map(owner))["label"].nunique()
        assert labels.to_dict() == {"ISMD": 2, "MGH": 2, "WFU": 2}

    def test_traps_are_there(self, phantom):
        rows = raw_rows(phantom)
        assert any("\n" in row["ROI mask file path"] for row in rows)
        assert any(row.get("breast_density", row.get("breast density")) == "0" for row in rows)
        shapes = {row.get("mass shape") for row in rows}
        assert {"ROUND-OVAL", "OVAL-ROUND", ""} <= shapes
        assert "BENIGN_WITHOUT_CALLBACK" in {row["pathology"] for row in rows}
        headers = {path.read_text().splitlines()[0] for path in phantom.glob("*_case_description_*.csv")}
        assert {"breast_density" in header for header in headers} == {True, False}
        assert all(row["image file path"].strip().endswith("000000.dcm") for row in rows)
        assert not list(phantom.rglob("000000.dcm"))

    def test_both_folder_layouts_are_there(self, phantom):
        assert list(phantom.glob("*/*-DDSM-*/1.000000-*/1-1.dcm"))
        assert list(phantom.glob("*/2.25.*/2.25.*/1-1.dcm"))


class TestImages:
    def test_crop_and_mask_are_swapped_somewhere(self, phantom):
        masks = {path.name for path in phantom.rglob("*_[0-9]/**/*.dcm") if is_mask(read_image(path).pixels)}
        assert masks >= {"1-1.dcm", "1-2.dcm"}

    @pytest.mark.parametrize("mode", ["crop", "roi", "film"])
    def test_every_lesion_can_be_shown(self, phantom, table, mode):
        image = compose(["preset=smoke", f"data.image.mode={mode}"]).data.image
        for row in table.frame.head(12).to_dict("records"):
            files = LesionFiles(
                lesion_paths=tuple(phantom / path for path in row["lesion_paths"]),
                film_path=phantom / row["film_path"],
                box=None,
                laterality=None,
            )
            pixels = load_lesion(files, image)
            assert pixels.shape == (image.size, image.size)
            assert np.ptp(pixels) > 0.05

    def test_some_scanners_store_monochrome1_or_fewer_bits(self, phantom):
        films = [pydicom.dcmread(path, stop_before_pixels=True) for path in phantom.rglob("*.dcm")]
        assert {film.PhotometricInterpretation for film in films} == {"MONOCHROME1", "MONOCHROME2"}
        assert {16, 12} <= {film.BitsStored for film in films}


class TestWriting:
    @pytest.mark.slow
    def test_same_seed_same_bytes_other_seed_other_bytes(self, tmp_path):
        for name, seed, num_workers in (("a", 1, 1), ("b", 1, 2), ("c", 2, 1)):
            write_phantom(tmp_path / name, num_patients=12, seed=seed, num_workers=num_workers)
        assert digests(tmp_path / "a") == digests(tmp_path / "b")
        assert digests(tmp_path / "a") != digests(tmp_path / "c")

    @pytest.mark.parametrize("num_workers", [0, -1])
    def test_needs_a_process(self, tmp_path, num_workers):
        with pytest.raises(ValueError, match=f"Expected num_workers={num_workers} >= 1"):
            write_phantom(tmp_path / "data", num_patients=12, seed=1, num_workers=num_workers)

    @pytest.mark.parametrize("is_folder", [False, True])
    def test_what_lies_there_already_is_not_overwritten(self, tmp_path, is_folder):
        root = tmp_path / "data"
        if is_folder:
            root.mkdir()
            (root / "notes.txt").write_text("mine")
        else:
            root.write_text("mine")
        with pytest.raises(DataError, match=r'to be absent, an empty folder, or the phantom .*"num_patients": 12'):
            write_phantom(root, num_patients=12, seed=1)
        assert ((root / "notes.txt") if is_folder else root).read_text() == "mine"

    def test_a_phantom_of_another_seed_is_not_overwritten(self, phantom):
        with pytest.raises(DataError, match=r'"seed": 4'):
            write_phantom(phantom, num_patients=40, seed=4)

    def test_an_empty_folder_is_filled_and_progress_counts_patients(self, tmp_path):
        done = []
        write_phantom(tmp_path, num_patients=12, seed=1, progress=done.append, num_workers=1)
        assert done == list(range(1, 13))
        assert json.loads((tmp_path / MARKER).read_text()) == {"generator_version": 1, "num_patients": 12, "seed": 1}

    def test_a_complete_folder_is_left_alone(self, phantom):
        before = {path: path.stat().st_mtime_ns for path in phantom.rglob("*")}
        write_phantom(phantom, num_patients=40, seed=3)
        assert before == {path: path.stat().st_mtime_ns for path in phantom.rglob("*")}

    @pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
    def test_an_interrupted_write_leaves_nothing_that_looks_complete(self, tmp_path, num_workers):
        def interrupt(done: int) -> None:
            if done == 3:
                raise KeyboardInterrupt("third")

        with pytest.raises(KeyboardInterrupt, match=r"^third$"):
            write_phantom(tmp_path / "data", num_patients=12, seed=1, progress=interrupt, num_workers=num_workers)
        assert not list(tmp_path.iterdir())
        write_phantom(tmp_path / "data", num_patients=12, seed=1)
        assert (tmp_path / "data" / MARKER).is_file()

    def test_command(self, tmp_path, capsys):
        assert main(["phantom", "--out", str(tmp_path / "data"), "--num-patients", "12", "--seed", "1"]) == 0
        assert (tmp_path / "data" / MARKER).is_file()
        assert main(["phantom", "--out", str(tmp_path / "data"), "--num-patients", "13", "--seed", "1"]) != 0
        assert Path(tmp_path / "data").name in capsys.readouterr().err


PHANTOM = (sys.executable, "-P", "-m", "simulations.commands", "phantom", "--num-patients", "150", "--out")


@pytest.fixture
def writing(tmp_path):
    """A process that has begun to write a phantom with two processes of its own, all in one group; and a function
    that returns those two.
    """
    with subprocess.Popen(  # noqa: S603
        [*PHANTOM, str(tmp_path / "data")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

        def workers():
            commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children.read_text().split()}
            return [int(pid) for pid, command in commands.items() if b"spawn_main" in command]

        while len(workers()) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        yield process, workers
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
class TestEnds:
    def test_a_killed_worker_is_one_line_and_leaves_nothing(self, tmp_path, writing):
        process, workers = writing
        os.kill(workers()[0], signal.SIGKILL)
        _, said = process.communicate()
        assert process.returncode == 1
        (line,) = said.splitlines()
        assert line.startswith("error: Expected every process to write its share of the phantom, one was killed")
        assert list(tmp_path.iterdir()) == []

    def test_ctrl_c_reaches_no_worker_whatever_it_is_just_importing(self, tmp_path, writing):
        process, _ = writing
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate()
        assert (process.returncode, said) == (130, "interrupted: nothing was written\n")
        assert list(tmp_path.iterdir()) == []

    def test_what_a_killed_call_left_is_gone_after_the_next(self, tmp_path, writing):
        process, _ = writing
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        (left,) = tmp_path.iterdir()
        assert left.name.startswith(".data.")
        write_phantom(tmp_path / "data", num_patients=12, seed=1, num_workers=1)
        assert [path.name for path in tmp_path.iterdir()] == ["data"]
