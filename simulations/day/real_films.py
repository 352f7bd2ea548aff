"""The four films of CBIS-DDSM that stand beside this repository on some machines, and a table to train a release on.

Films of CBIS-DDSM are few here, its patches many. Each patch is entered into the table as a film of its own, with the
box in its middle at which ``data.image.mode=roi`` cuts out exactly the patch: so a network for films is trained on real
lesions. On the four films the box is put where their own patches lie, found by registration, since a network that is
given another cut gives another answer.
"""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2

from client.data.images import read_image
from client.data.preprocessing import Box, Float32Array
from shared_model.errors import DataError
from shared_model.vocabulary import Split, View
from simulations.day.films import Breast, read_film

PATIENTS = {"P_00173": "2", "P_00820": "3"}
"""Whose films are here, with BI-RADS density; both are of the official test split."""
CONTEXT = 1.5
"""Side of the cut over that of the box: ``data.image.context``."""
_SIDE = 128
"""Of a patch, in pixels."""
IN_PATCH = Box(x=22, y=22, width=85, height=85)
"""1.5 times its side is the whole patch."""
_BOXES, _ROSTER, _TABLE = "mass_roi_boxes.csv", "sites.csv", "lesions.csv"
_SMALLEST, _LARGEST = 1.2, 1.65
"""Side of the square that a patch shows, over the longer side of the lesion's box."""
_LEAST_CORRELATION = 0.95


def missing(root: Path) -> str:
    """Return what ``root`` lacks of these films, in one line; empty if nothing."""
    try:
        for patient in PATIENTS:
            for view in View:
                _file(root / f"Mass-Test_{patient}_LEFT_{view}")
        _ = (root / _BOXES).stat(), (root / _ROSTER).stat()
    except (DataError, OSError) as error:
        return f"the four films of CBIS-DDSM are not in {root}: {error}"
    return ""


def real_breasts(root: Path) -> tuple[tuple[Breast, ...], tuple[float, ...]]:
    """Return the breasts, with the box of each film where its patch lies, and how well patches and films agree.

    Raises:
        DataError: a file is missing, or a patch is not found on its film.
    """
    boxes = _lesion_boxes(root)
    breasts, correlations = [], []
    for patient, density in PATIENTS.items():
        films = {}
        for view in View:
            name = f"Mass-Test_{patient}_LEFT_{view}"
            path = _file(root / name)
            square, correlation = find_patch(
                read_image(path).pixels, read_image(_file(root / f"{name}_1")).pixels, boxes[f"{name}_1"]
            )
            films[view] = (read_film(path), inner_box(square))
            correlations.append(correlation)
        breasts.append(Breast(films=films, columns={"breast_density": density}))
    return tuple(breasts), tuple(correlations)


def find_patch(film: Float32Array, patch: Float32Array, lesion: Box) -> tuple[Box, float]:
    """Return the square of the film that a patch shows, and their correlation.

    Args:
        film: ``(H, W)``.
        patch: ``(S, S)``, cut out near the lesion and scaled.
        lesion: on the film.

    Raises:
        DataError: no square near the lesion looks like the patch.
    """
    longer = max(lesion.width, lesion.height)
    top, left = max(0, lesion.y - longer), max(0, lesion.x - longer)
    part = film[top : lesion.y + lesion.height + longer, left : lesion.x + lesion.width + longer]
    best, found = -1.0, None
    for side in range(int(_SMALLEST * longer), int(_LARGEST * longer) + 1):
        scale = len(patch) / side
        small = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if min(small.shape) < len(patch):
            continue
        _, correlation, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(small, patch, cv2.TM_CCOEFF_NORMED))
        if correlation > best:
            best = float(correlation)
            found = Box(x=left + round(x / scale), y=top + round(y / scale), width=side, height=side)
    if found is None or best < _LEAST_CORRELATION:
        raise DataError(
            f"Expected the patch on its film near {lesion}, the best place has a correlation of {best:.2f}."
        )
    return found, best


def inner_box(square: Box) -> Box:
    """Return the box in the middle of a square, ``CONTEXT`` times whose side is the square."""
    side = round(square.width / CONTEXT)
    inset = (square.width - side) // 2
    return Box(x=square.x + inset, y=square.y + inset, width=side, height=side)


def write_table(root: Path, folder: Path) -> Path:
    """Write all patches but those of the four films' patients as a table of films with boxes; return its path.

    Raises:
        DataError, OSError: a table or a file cannot be read or written.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "films").mkdir(parents=True)
    rows = [row for split in Split for row in _rows(root, folder / "films", split)]
    if not rows:
        raise DataError(f"Expected patches of masses in {root}, found none.")
    with (folder / _TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    shutil.copyfile(root / _ROSTER, folder / _ROSTER)
    return folder / _TABLE


def _rows(root: Path, films: Path, split: Split) -> Iterator[dict[str, object]]:
    word = {Split.TRAIN: "Training", Split.TEST: "Test"}[split]
    with (root / f"mass_case_description_{split}_set.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            side, view, number = row["left or right breast"], row["image view"], row["abnormality id"]
            name = f"Mass-{word}_{row['patient_id']}_{side}_{view}_{number}"
            if row["patient_id"] in PATIENTS or not (root / name).is_dir():
                continue
            shutil.copyfile(_file(root / name), films / f"{name}.dcm")
            yield {
                "patient_id": row["patient_id"],
                "label": int(row["pathology"] == "MALIGNANT"),
                "split": str(split),
                "lesion_id": name,
                "finding_id": number,
                "image_path": f"films/{name}.dcm",
                "laterality": side,
                "view": view,
                "abnormality_type": "mass",
                "breast_density": row["breast_density"],
                "roi_x": IN_PATCH.x,
                "roi_y": IN_PATCH.y,
                "roi_w": IN_PATCH.width,
                "roi_h": IN_PATCH.height,
            }


def _lesion_boxes(root: Path) -> dict[str, Box]:
    with (root / _BOXES).open(newline="", encoding="utf-8") as file:
        return {
            row["lesion_key"]: Box(
                x=int(row["roi_x"]), y=int(row["roi_y"]), width=int(row["roi_w"]), height=int(row["roi_h"])
            )
            for row in csv.DictReader(file)
        }


def _file(folder: Path) -> Path:
    found = next(iter(sorted(folder.glob("*/*/*.dcm"))), None)
    if found is None:
        raise DataError(f"Expected a DICOM file below {folder}.")
    return found
