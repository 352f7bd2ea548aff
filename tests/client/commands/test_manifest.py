"""A table tried before anybody trains on it: what is said, what is drawn, and when it is refused."""

import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from simulations.commands.app import main


@pytest.fixture
def check(hospital, tmp_path, capsys):
    def run(*overrides):
        status = main(["manifest", "check", str(hospital.manifest), *overrides, "--out", str(tmp_path / "sheet.png")])
        return status, capsys.readouterr()

    return run


@pytest.fixture
def changed(hospital):
    """Return a function that changes the table."""

    def change(**columns):
        frame = pd.read_csv(hospital.manifest, dtype=str, keep_default_na=False)
        for name, change in columns.items():
            frame[name] = [change(cell) for cell in frame[name]]
        frame.to_csv(hospital.manifest, index=False)

    return change


def test_what_would_be_read_and_ten_pictures(check, tmp_path):
    status, said = check()
    assert status == 0
    lines = said.out.splitlines()
    assert lines[:4] == [
        "train        32 lesion views of 16 patients, 16 malignant",
        "test         8 lesion views of 4 patients, 4 malignant",
        "set aside    0 rows rejected, 0 excluded (patient also tested)",
        "images       30 of 40 lesions have an image (data.image.mode=crop)",
    ]
    assert "mass_margins 40" in lines[4]
    assert lines[-1] == f"pictures     10 lesions in {tmp_path / 'sheet.png'}"
    assert cv2.imread(str(tmp_path / "sheet.png"), cv2.IMREAD_UNCHANGED).shape == (2 * 304 + 8, 5 * 264 + 8)


def test_kinds_of_rejects_and_cells_taken_as_missing(check, changed):
    changed(label=lambda cell: "?" if cell == "1" else cell, breast_density=lambda cell: cell.replace("2", "5"))
    status, said = check()
    assert status == 1
    assert "look at      rejected: 20 x Expected label='?' to be one of 0, 1, MALIGNANT" in said.out
    assert (
        "10 cells are not understood and count as missing: 10 x kept, the cell taken as missing: Expected" in said.out
    )
    assert "Expected rejected rows 20 of 40" in said.err


def test_a_column_of_another_name_is_named_and_no_image_is_an_error(check, hospital, caplog):
    text = hospital.manifest.read_text()
    hospital.manifest.write_text(text.replace("image_path", "image_pth"))
    status, said = check()
    assert status == 1
    assert "columns not used: image_pth (is it image_path?)" in caplog.text
    assert "0 of 40 lesions have an image" in said.out
    assert "error: Expected images, 0 of 40 lesions have an image; correct image_path" in said.err
    assert check("model.modality=clinical", "model.image_components=0")[0] == 0


def test_an_image_that_cannot_be_read_is_named_and_crossed_out(check, hospital):
    for path in hospital.manifest.parent.glob("*.png"):
        path.write_bytes(b"no image")
    _, said = check()
    assert "look at      image cannot be used: " in said.out


def test_one_image_of_two_patients(check, hospital):
    first, *_, last = sorted(hospital.manifest.parent.glob("*.dcm"))
    shutil.copy(first, last)
    status, said = check()
    assert status == 1
    assert "Expected every image to be one patient's" in said.err


def test_a_picture_ends_in_png(hospital, capsys):
    assert main(["manifest", "check", str(hospital.manifest), "--out", "sheet.jpg"]) == 2
    assert "expected sheet.jpg to end in .png" in capsys.readouterr().err


def test_control_characters_of_a_table_do_not_reach_the_terminal(check, changed):
    changed(label=lambda cell: "\x1b[2J\x07" if cell == "1" else cell)
    _, said = check()
    assert "\x1b" not in said.out + said.err


def test_pictures_unlike_real_masses_are_told_and_refuse_nothing(check, hospital):
    bright = np.full((32, 32), 220, np.uint8)
    cv2.circle(bright, (16, 16), 6, 240, -1)
    folder = hospital.manifest.parent
    for number, path in enumerate([*folder.glob("*.png"), *folder.glob("*.dcm")]):
        # Files are told apart by content, and no two patients may have the same.
        bright[0, 0] = number
        path.write_bytes(cv2.imencode(".png", bright)[1].tobytes())
    status, said = check()
    assert status == 0
    assert "look at      grey levels: brighter than the masses compared with, middle grey " in said.out
    assert "grey levels  " in said.out
