"""One image under two patients: a copying mistake that trains on somebody's film under another's privacy budget.

What is compared are pixels: a file that was exported twice, or made anonymous in two ways, has two headers. To decode
all of them would take hours where films are many, so this is done only where another patient's file has the same bytes
at some distances from the end, where pixels stand.
"""

import hashlib
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

_LAST_BYTES, _BLOCK_BYTES, _DISTANCES = 2**9, 2**11, (2**18, 2**20, 2**21, 2**22, 2**23)
"""What is compared first: the last bytes, and blocks so far from the end, of which one or another shows tissue."""


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
    for key in (_sample, _picture):
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


def _sample(path: Path) -> bytes:
    """Return a digest of blocks at fixed distances from the end, as far as the file reaches."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        # A pipe would be waited for.
        raise FileNotFoundError(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(max(0, status.st_size - _LAST_BYTES))
        digest.update(file.read(_LAST_BYTES))
        for distance in _DISTANCES:
            if distance <= status.st_size:
                file.seek(status.st_size - distance)
                digest.update(file.read(_BLOCK_BYTES))
    return digest.digest()


def _picture(path: Path) -> bytes:
    """Return a digest of the pixels, or of the file where they cannot be read."""
    try:
        pixels = read_image(path).pixels
    except DicomError:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()


def _shows_mask(path: Path) -> bool:
    """Return whether the file is a mask, which shows nobody: two may be equal by chance."""
    try:
        return is_mask(read_image(path).pixels)
    except (DicomError, OSError):
        return False


def _row(table: LesionTable, row: int) -> str:
    cells = table.frame.iloc[row]
    return peer_text(f"row {cells['row']} of {cells['source']} (patient {cells['patient_id']}, {cells['split']})")
