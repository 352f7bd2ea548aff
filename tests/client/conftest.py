"""A small hospital with its own manifest: DICOM files, PNG files, rows without an image, and a canary everywhere."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CANARY = "ZQXCANARYQXZ"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hospital:
    """A manifest and where its cache goes."""

    manifest: Path
    cache: Path

    def overrides(self, *more: str) -> list[str]:
        return [
            "preset=smoke",
            "phantom.num_patients=null",
            "data.source=manifest",
            f"data.root={self.manifest}",
            "data.roster=null",
            f"data.cache_dir={self.cache}",
            # Every test has ledgers of its own.
            f"run.dir={self.cache.parent / 'run'}",
            "data.image.size=32",
            "data.public_fraction=0",
            "data.validation_fraction=0.3",
            "model.image_components=0",
            "federation.sites=[HOME]",
            "federation.min_sites=1",
            *more,
        ]


def write_dicom(path: Path, pixels: np.ndarray) -> None:
    """Write an 8-bit image whose every text attribute holds the canary."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    for keyword in ("PatientName", "PatientID", "InstitutionName", "SeriesDescription", "AccessionNumber"):
        setattr(dataset, keyword, CANARY)
    dataset.Modality, dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MG", "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = pixels.astype(np.uint8).tobytes()
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    """Twenty patients with two lesions each; brighter images are malignant."""
    folder = tmp_path / CANARY
    folder.mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for number in range(40):
        label = number // 2 % 2
        name = f"{CANARY}-{number}"
        pixels = generator.integers(0, 150, (40, 40)) + 100 * label
        if number % 4 == 0:
            write_dicom(folder / f"{name}.dcm", pixels)
        elif number % 4 == 1:
            cv2.imwrite(str(folder / f"{name}.png"), pixels.astype(np.uint8))
        suffix = (".dcm", ".png", None, ".dcm")[number % 4]
        if number % 4 == 3:
            write_dicom(folder / f"{name}.dcm", pixels)
        rows.append(
            {
                "patient_id": f"{CANARY}-patient-{number // 2}",
                "lesion_id": f"{CANARY}-lesion-{number}",
                "image_path": name + suffix if suffix else "",
                "label": label,
                "split": "test" if number // 2 in (3, 4, 7, 8) else "train",
                "breast_density": number % 4 + 1,
                "laterality": "LEFT",
                "view": "CC",
                "abnormality_type": "mass",
                "mass_shape": "OVAL",
                "mass_margins": "",
                "calc_type": "",
                "calc_distribution": "",
                "assessment": 4,
                "subtlety": 3,
            }
        )
    manifest = folder / "manifest.csv"
    pd.DataFrame(rows).to_csv(manifest, index=False)
    return Hospital(manifest=manifest, cache=tmp_path / "cache")
