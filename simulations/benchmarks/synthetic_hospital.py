"""A hospital whose table has as many rows as one likes: a manifest with images, and the site's kit."""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from server.deployment.bundle import bundle_digest
from server.deployment.provision import provision
from shared_model.config.choices import DataSource
from shared_model.system.processes import free_port
from shared_model.system.seeding import numpy_generator

ROWS_PER_IMAGE = 10
"""One row in so many names an image."""
_ROWS_PER_PATIENT = 4
_HEADER = (
    "patient_id", "label", "split", "finding_id", "image_path", "laterality", "view", "abnormality_type",
    "breast_density", "mass_shape", "mass_margins", "age",
)  # fmt: skip
_SHAPES, _MARGINS = ("OVAL", "ROUND", "IRREGULAR", "LOBULATED"), ("CIRCUMSCRIBED", "ILL_DEFINED", "SPICULATED")
_TEST_SHARE = 0.2
_SIDE = 16
"""Pixels; the images are as small as they may be, since looking at them does not grow with the table."""
_FILES_PER_FOLDER = 1000
_SITE, _VALID_DAYS = "HERE", 2


def write_hospital(folder: Path, num_rows: int) -> Path:
    """Write table, images and kit; return the path of ``site.yaml``, whose ledger has not begun.

    A patient has one mass of each breast, on two views. Every image is another patient's or view's own, and all files
    have one size, so that none is known to be its patient's alone before it is opened.

    Args:
        folder: to write to; empty.
        num_rows: of the table, at least 400, so that there are patients of both classes to train on.

    Raises:
        ValueError: ``num_rows`` is below 400.
        OSError: a file cannot be written.
    """
    if num_rows < 400:
        raise ValueError(f"Expected num_rows={num_rows} >= 400.")
    table = folder / "data" / "table.csv"
    table.parent.mkdir()
    with table.open("w", encoding="utf-8") as file:
        file.writelines(_lines(num_rows))
    for number in range(0, num_rows, ROWS_PER_IMAGE):
        path = table.parent / _image_path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_image(number))
    return _write_kit(folder / "kits", table)


def _lines(num_rows: int) -> Iterator[str]:
    rng = numpy_generator(0, "benchmark", "hospital")
    yield ",".join(_HEADER) + "\n"
    for patient in range(-(-num_rows // _ROWS_PER_PATIENT)):
        split = "test" if rng.random() < _TEST_SHARE else "train"
        age, density = rng.integers(35, 90), rng.integers(1, 5)
        for breast, side in enumerate(("LEFT", "RIGHT")):
            outcome = rng.integers(2)
            shape, margins = _SHAPES[rng.integers(len(_SHAPES))], _MARGINS[rng.integers(len(_MARGINS))]
            for at, view in enumerate(("CC", "MLO")):
                number = _ROWS_PER_PATIENT * patient + 2 * breast + at
                if number < num_rows:
                    image = "" if number % ROWS_PER_IMAGE else _image_path(number)
                    yield (
                        f"{_patient(number)},{outcome},{split},1,{image},{side},{view},mass,{density},{shape},"
                        f"{margins},{age}\n"
                    )


def _patient(row: int) -> str:
    return f"P{row // _ROWS_PER_PATIENT:07d}"


def _image_path(row: int) -> str:
    return f"images/{row // ROWS_PER_IMAGE // _FILES_PER_FOLDER}/{row}.dcm"


def _image(row: int) -> bytes:
    """Return a DICOM file (PS3.10 7.1; explicit VR, PS3.5 7.1.2) whose last pixels count the rows."""
    pixels = np.arange(_SIDE * _SIDE, dtype=np.uint8)
    pixels[-8:] = np.frombuffer(struct.pack(">Q", row), dtype=np.uint8)
    return bytes(128) + b"DICM" + b"".join(
        (
            _element(0x0002, 0x0010, b"UI", b"1.2.840.10008.1.2.1\0"),
            _element(0x0008, 0x0016, b"UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
            _element(0x0008, 0x0060, b"CS", b"MG"),
            _element(0x0010, 0x0020, b"LO", _patient(row).encode()),
            _element(0x0028, 0x0002, b"US", struct.pack("<H", 1)),
            _element(0x0028, 0x0004, b"CS", b"MONOCHROME2 "),
            _element(0x0028, 0x0010, b"US", struct.pack("<H", _SIDE)),
            _element(0x0028, 0x0011, b"US", struct.pack("<H", _SIDE)),
            _element(0x0028, 0x0100, b"US", struct.pack("<H", 8)),
            _element(0x0028, 0x0101, b"US", struct.pack("<H", 8)),
            _element(0x0028, 0x0102, b"US", struct.pack("<H", 7)),
            _element(0x0028, 0x0103, b"US", struct.pack("<H", 0)),
            struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, pixels.nbytes) + pixels.tobytes(),
        )
    )  # fmt: skip


def _element(group: int, element: int, representation: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, element, representation, len(value)) + value


def _write_kit(folder: Path, table: Path) -> Path:
    """Write the kit of a site that has this table and the policy that kits ship."""
    kits = provision(
        out=folder,
        sites=[_SITE],
        hosts=["localhost"],
        port=free_port(),
        valid_days=_VALID_DAYS,
        approved_bundles=[bundle_digest()],
    )
    path = kits.sites[_SITE] / "site.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    settings |= {"data_root": str(table), "data_source": str(DataSource.MANIFEST), "roster": None}
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path
