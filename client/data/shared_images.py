"""One image under two patients: a copying mistake that trains on somebody's film under another's privacy budget.

What is compared is the content of files. To read all of it would take hours where films are many, so a file is read
whole only if another patient's has its size and the same beginning and end.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from client.data.images import LesionFiles, image_paths_used, read_image
from client.data.network_inputs import lesion_files
from client.data.preprocessing import is_mask
from client.data.tables.lesion_table import LesionTable
from client.data.tables.roster import patient_key
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import DataError, DicomError
from shared_model.system.peer_text import peer_text

_SAMPLE_BYTES = 2**14


def require_own_images(table: LesionTable, config: ExperimentConfig) -> None:
    """Check that no image of one patient is also another's, whose split may be the other one.

    Not for a request: what becomes of one patient's rows would depend on another's.

    Args:
        table: of the patients to compare.
        config: says which files the network reads.

    Raises:
        DataError: naming the rows of both.
    """
    frame = table.frame
    shared = shared_images(lesion_files(frame, config), frame["patient_id"].map(patient_key).to_list(), config)
    if shared is None:
        return
    first, second = (_row(table, row) for row in shared)
    raise DataError(
        f"Expected every image to be one patient's, got the same one in {first} and in {second}; correct image or "
        "patient_id of one of them."
    )


def shared_images(
    files: Sequence[LesionFiles], patients: Sequence[str], config: ExperimentConfig
) -> tuple[int, int] | None:
    """Return two rows of different patients with an image of the same content, None where there are none."""
    mode = config.data.image.mode
    rows: dict[Path, list[int]] = {}
    for row, lesion in enumerate(files):
        for path in image_paths_used(lesion, mode):
            rows.setdefault(path, []).append(row)
    groups: list[list[Path]] = [list(rows)]
    for key in (_size, _sample, _digest):
        groups = [part for group in groups for part in _parts(group, key) if _num_patients(part, rows, patients) > 1]
    for group in groups:
        if _shows_mask(group[0]):
            continue
        same = sorted(row for path in group for row in rows[path])
        other = next(row for row in same if patients[row] != patients[same[0]])
        return same[0], other
    return None


def _parts(paths: Iterable[Path], key: Callable[[Path], object]) -> list[list[Path]]:
    """Return the paths with equal keys together; those that cannot be read are left out, and said elsewhere."""
    parts: dict[object, list[Path]] = {}
    for path in paths:
        try:
            parts.setdefault(key(path), []).append(path)
        except OSError:
            continue
    return list(parts.values())


def _num_patients(paths: Iterable[Path], rows: dict[Path, list[int]], patients: Sequence[str]) -> int:
    return len({patients[row] for path in paths for row in rows[path]})


def _size(path: Path) -> int:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        # A pipe would be waited for.
        raise FileNotFoundError(path)
    return status.st_size


def _sample(path: Path) -> bytes:
    """Return a digest of the first and the last bytes."""
    with path.open("rb") as file:
        start = file.read(_SAMPLE_BYTES)
        file.seek(-min(_SAMPLE_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return hashlib.sha256(start + file.read(_SAMPLE_BYTES)).digest()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _shows_mask(path: Path) -> bool:
    """Return whether the file is a mask, which shows nobody: two may be equal by chance."""
    try:
        return is_mask(read_image(path).pixels)
    except (DicomError, OSError):
        return False


def _row(table: LesionTable, row: int) -> str:
    cells = table.frame.iloc[row]
    return peer_text(f"row {cells['row']} of {cells['source']} (patient {cells['patient_id']}, {cells['split']})")
