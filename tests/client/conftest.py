"""Two small hospitals: one with files of all kinds and a canary everywhere, one of clinical columns alone."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
import yaml
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from client.privacy.ledger import Ledger
from client.privacy.ledger_creation import is_begun
from client.privacy.policy import OPEN_POLICY
from client.site import open_site
from shared_model.config import compose
from tests.one_site import NUM_DECLARED, NUM_PATIENTS, NUM_TEST

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


@pytest.fixture
def table(tmp_path):
    """Forty patients, the first eight of the test split; every third has a second lesion."""
    rows = [
        {
            "patient_id": f"patient {number}",
            "lesion_id": f"lesion {number} {lesion}",
            "label": number // 2 % 2,
            "split": "test" if number < NUM_TEST else "train",
            "breast_density": number % 4 + 1,
            "laterality": ("LEFT", "RIGHT")[(number + lesion) % 2],
            "view": ("CC", "MLO")[number // 4 % 2],
            "abnormality_type": "mass",
        }
        for number in range(NUM_PATIENTS)
        for lesion in range(2 if number % 3 == 0 else 1)
    ]
    path = tmp_path / "table.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture
def make_config(table, tmp_path):
    """Return a function that composes the configuration of the site with more overrides."""

    def make(*more):
        return compose(
            [
                "preset=smoke",
                "phantom.num_patients=null",
                "data.source=manifest",
                f"data.root={table}",
                "data.roster=null",
                f"data.cache_dir={tmp_path / 'cache'}",
                f"run.dir={tmp_path / 'run'}",
                "data.features=safe",
                "data.public_fraction=0",
                "data.validation_fraction=0.3",
                "model.modality=clinical",
                "model.image_components=0",
                "federation.sites=[HOME]",
                "federation.min_sites=1",
                *more,
            ]
        )

    return make


@pytest.fixture
def policy(tmp_path):
    """Return a function that writes the open policy, with a declared size and some limits changed."""

    def write(**limits):
        path = tmp_path / "policy.yaml"
        declared = {"declared_patients": NUM_DECLARED}
        path.write_text(yaml.safe_dump(yaml.safe_load(OPEN_POLICY.read_text()) | declared | limits))
        return path

    return write


@pytest.fixture
def open_home(tmp_path, table, policy):
    """Return a function that opens the site, with limits of its own, for a configuration; its ledger is begun once."""

    def open_it(config, *, ledger="ledger", **limits):
        path = tmp_path / ledger / "ledger.sqlite"
        if not is_begun(path):
            Ledger.create(path)
        node_config = {
            "site": "HOME",
            "data-root": str(table),
            "data-source": "manifest",
            "ledger": str(path),
            "policy": str(policy(**limits)),
        }
        return open_site(node_config, config)

    return open_it
