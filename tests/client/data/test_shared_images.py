"""One image of two patients is found by its content, wherever the copy lies, and both rows are named."""

import os
import shutil

import cv2
import numpy as np
import pydicom
import pytest

from client.data.network_inputs import lesion_files
from client.data.shared_images import require_own_images
from client.data.tables.site_table import site_table
from shared_model.config import compose
from shared_model.errors import DataError


@pytest.fixture
def config(hospital):
    return compose(hospital.overrides())


def path_of(config, row):
    return lesion_files(site_table(config, "HOME").frame, config)[row].lesion_paths[0]


def test_images_of_their_own(config):
    require_own_images(site_table(config, "HOME"), config)


@pytest.mark.parametrize("change", [shutil.copy, os.link, os.symlink])
def test_a_copy_under_another_patient(config, change):
    first, copy = path_of(config, 0), path_of(config, 7)
    copy.unlink()
    change(first, copy)
    with pytest.raises(
        DataError,
        match=r"same one in row 1 of manifest\.csv \(patient .*-patient-0, train\) and in row 8 of manifest\.csv "
        r"\(patient .*-patient-3, test\); correct image or patient_id",
    ):
        require_own_images(site_table(config, "HOME"), config)


@pytest.mark.parametrize("size", [24, 700])
def test_a_copy_with_another_header(config, size):
    """As of two exports, or of two programs that took the names out."""
    picture = np.random.default_rng(0).integers(0, 256, (size, size), dtype=np.uint8)
    for row, name in ((0, "A"), (7, "Somebody else, exported later")):
        write_dicom(path_of(config, row), picture, name)
    with pytest.raises(DataError, match=r"same one in row 1 of manifest\.csv .* and in row 8"):
        require_own_images(site_table(config, "HOME"), config)
    picture[0, 0] ^= 1
    write_dicom(path_of(config, 7), picture, "B")
    require_own_images(site_table(config, "HOME"), config)


def write_dicom(path, pixels, name):
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.SecondaryCaptureImageStorage, f"1.2.{len(name)}"
    dataset.Modality, dataset.PatientID, dataset.StudyDescription = "MG", name, 2 * name
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)


def test_a_copy_of_the_same_patient_is_her_own(config):
    shutil.copy(path_of(config, 0), path_of(config, 1))
    require_own_images(site_table(config, "HOME"), config)


def test_the_same_size_and_ends_are_not_the_same_image(config):
    paths = [path_of(config, row) for row in (0, 7)]
    for path, middle in zip(paths, (b"1", b"2"), strict=True):
        path.write_bytes(b"x" * 20_000 + middle + b"x" * 20_000)
    require_own_images(site_table(config, "HOME"), config)


def test_a_pipe_is_not_waited_for(config):
    table, path = site_table(config, "HOME"), path_of(config, 0)
    path.unlink()
    os.mkfifo(path)
    require_own_images(table, config)


def test_equal_masks_are_nobodys(config):
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[10:20, 10:20] = 255
    for row in (0, 7):
        assert cv2.imwrite(str(path_of(config, 1)), mask)
        shutil.copy(path_of(config, 1), path_of(config, row))
    require_own_images(site_table(config, "HOME"), config)
