"""A few images are opened before a start: how many were tried, and the first that cannot be read."""

import os

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset

from client.deployment.checks import Doubt
from client.deployment.image_checks import check_file_patients, check_images
from shared_model.errors import DataError
from tests.hospital_kits import rows_of

NUM_PATIENTS = 12


@pytest.fixture
def images(kit):
    """A hospital with a small grey PNG for each of twelve patients, and no word about the modality."""
    kit.change_policy(fields={})
    rows = rows_of([f"P{number:02d}" for number in range(NUM_PATIENTS)])
    folder = kit.table.parent
    for number, row in enumerate(rows):
        row["image_path"] = f"{row['patient_id']}.png"
        pixels = np.arange(256, dtype=np.uint8).reshape(16, 16) + np.uint8(number)
        assert cv2.imwrite(str(folder / row["image_path"]), pixels)
    kit.write_table(rows)
    return kit


def test_a_few_files_are_opened_and_counted(images):
    assert check_images(images.site) == "12 of 12 lesions have an image; 4 files opened"


def test_the_same_files_each_time_and_the_first_failure_is_named(images):
    (images.table.parent / "P11.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    for _ in range(2):
        with pytest.raises(
            Doubt,
            match=r"12 of 12 .*; 1 of 4 files opened cannot be read, the first: .*P11\.png: Expected a complete PNG",
        ):
            check_images(images.site)


def test_a_pipe_is_not_waited_for(images):
    path = images.table.parent / "P00.png"
    path.unlink()
    os.mkfifo(path)
    assert check_images(images.site).startswith("11 of 12 lesions have an image")


def test_nothing_that_can_be_read(images):
    for path in images.table.parent.glob("*.png"):
        path.write_bytes(f"no image: {path.name}".encode())
    with pytest.raises(DataError, match=r"Expected cut-outs or masks \(\.png\) that can be read; 12 of 12 .* 4 of 4"):
        check_images(images.site)


def test_one_image_of_two_patients(images):
    folder = images.table.parent
    (folder / "P01.png").write_bytes((folder / "P00.png").read_bytes())
    with pytest.raises(DataError, match=r"the same one in row 1 of .* \(patient P00, train\) and in row 2 of"):
        check_images(images.site)


def test_an_export_that_forgot_the_images_names_key_and_value(images):
    for path in images.table.parent.glob("*.png"):
        path.unlink()
    with pytest.raises(
        DataError, match=r"0 of 12 lesions have an image; .*set fields: \{model\.modality: \[clinical\]\}"
    ):
        check_images(images.site)


def test_most_images_missing_is_a_doubt(images):
    for number in range(7):
        (images.table.parent / f"P{number:02d}.png").unlink()
    with pytest.raises(Doubt, match="5 of 12 lesions have an image"):
        check_images(images.site)


def test_a_site_that_sends_no_images_needs_none(images):
    for path in images.table.parent.glob("*.png"):
        path.unlink()
    images.change_policy(fields={"model.modality": ["clinical"]})
    assert check_images(images.site).startswith("none needed")


def write_dicom(path, pixels, view):
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.SecondaryCaptureImageStorage, "1.2.3"
    dataset.Modality, dataset.ViewPosition = "MG", view
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = pixels.astype(np.uint8).tobytes()
    dataset.save_as(path, enforce_file_format=True)


def test_files_of_another_view_than_the_table_says(images):
    """Every file can be read, and a run would set every row aside."""
    rows = rows_of([f"P{number:02d}" for number in range(NUM_PATIENTS)])
    for number, row in enumerate(rows):
        row["image_path"] = f"{row['patient_id']}.dcm"
        write_dicom(images.table.parent / row["image_path"], np.arange(256).reshape(16, 16) + number, "MLO")
    images.write_table(rows)
    with pytest.raises(
        DataError, match=r"shown; 12 of 12 .*; 4 of 4 lesions cannot be used, .*view=MLO == CC of the ta"
    ):
        check_images(images.site)
    images.write_table([row | {"view": "MLO"} if number else row for number, row in enumerate(rows)])
    with pytest.raises(Doubt, match=r"4 files opened; 1 of 4 lesions cannot be used, the first: .*P00\.dcm: Expected"):
        check_images(images.site)


def test_one_patient_of_files_under_two_of_the_table(images):
    assert check_file_patients(images.site) == "0 DICOM headers read"
    rows = rows_of([f"P{number:02d}" for number in range(NUM_PATIENTS)])
    for number, row in enumerate(rows):
        row["image_path"] = f"{row['patient_id']}.dcm"
        path = images.table.parent / row["image_path"]
        write_dicom(path, np.arange(256).reshape(16, 16), "CC")
        dataset = pydicom.dcmread(path)
        dataset.PatientID = f"HN-{0 if number in (3, 8) else number + 1}"
        dataset.save_as(path)
    images.write_table(rows)
    with pytest.raises(
        Doubt, match=r"^12 DICOM headers read; 1 PatientID of DICOM files under .* \(P03, P08\): if they"
    ):
        check_file_patients(images.site)
    images.change_policy(fields={"model.modality": ["clinical"]})
    assert check_file_patients(images.site) == "none needed"
