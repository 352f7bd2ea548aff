"""How long one lesion takes: by a reader that stays warm, and by the command, which begins a process for it.

Every case is measured in a process of its own, so that memory is that of nothing else.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from client.data.preprocessing import Box, mask_box
from client.reading.reader import Reader
from client.reading.request import LesionRequest, Picture
from client.reading.result import Outcome
from shared_model.errors import FederatedMammographyError
from shared_model.vocabulary import Laterality, LesionType, Pathology, Split, View
from simulations.benchmarks.child_process import in_child, run_fedmammo
from simulations.benchmarks.process_memory import PEAK, memory_bytes
from simulations.benchmarks.untrained_release import write_untrained_release
from simulations.phantom.dicom_files import cut_crop, write_presentation
from simulations.phantom.films import FILM_SHAPE, draw_film
from simulations.phantom.patients import Lesion

FILM_PIXELS = (5000, 3000)
CROP_SIDE = 600
"""Pixels, about what the crops of CBIS-DDSM have."""
_CROPS, _FILMS, _COLD = 0.5, 1.2, 3.0
"""Seconds of processor time that the reader is meant to take at most."""
_LATE = 0.95
Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadingTimes:
    """Times of one way to read a lesion on two views."""

    what: str
    num_readings: int
    median_seconds: float
    """Of processor time, all threads and processes."""
    late_seconds: float
    """The 95th percentile of it."""
    elapsed_seconds: float
    """Median."""
    peak_bytes: int
    """Of resident memory."""
    target_seconds: float | None
    """Of processor time; None where none was set."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Case:
    release: Path
    pictures: tuple[Picture, ...]
    has_maps: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Found:
    processor_seconds: list[float]
    elapsed_seconds: list[float]
    peak_bytes: int


def measure_readings(num_repeats: int, *, progress: Progress) -> Iterator[ReadingTimes]:
    """Yield the times of reading crops and films, warm, with maps, and cold.

    Args:
        num_repeats: readings of each kind, at least 1; cold ones a quarter of them, since each begins a process.
        progress: called with what is done next.

    Raises:
        FederatedMammographyError: a lesion is not read, so that its time says nothing.
        OSError: a file cannot be written.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress("writing releases and films")
        for mode in ("crop", "roi"):
            write_untrained_release(folder / mode, mode)
        films, crops = _write_pictures(folder)
        of_crops = _Case(release=folder / "crop", pictures=crops)
        of_films = _Case(release=folder / "roi", pictures=films)
        size = f"{FILM_PIXELS[0]} x {FILM_PIXELS[1]}"
        cases = (
            ("two crops, warm", _warm, of_crops, _CROPS),
            (f"two films of {size}, warm", _warm, of_films, _FILMS),
            ("the same with maps", _warm, dataclasses.replace(of_films, has_maps=True), None),
            ("two crops, cold", _cold, of_crops, _COLD),
            ("two films, cold", _cold, of_films, None),
        )
        for what, measure, case, target in cases:
            progress(what)
            found = measure(case, num_repeats)
            yield ReadingTimes(
                what=what,
                num_readings=len(found.processor_seconds),
                median_seconds=float(np.median(found.processor_seconds)),
                late_seconds=float(np.quantile(found.processor_seconds, _LATE)),
                elapsed_seconds=float(np.median(found.elapsed_seconds)),
                peak_bytes=found.peak_bytes,
                target_seconds=target,
            )


def _write_pictures(folder: Path) -> tuple[tuple[Picture, ...], tuple[Picture, ...]]:
    """Write both views as films and as crops."""
    films, crops = [], []
    rows, columns = FILM_PIXELS
    for number, view in enumerate(View):
        rng = np.random.default_rng(number)
        film = draw_film([_mass()], density=2, view=view, laterality=Laterality.LEFT, rng=rng)
        image = cv2.resize(film.image, (columns, rows), interpolation=cv2.INTER_CUBIC)
        # Grain, as real films have: a smooth one would be decoded and shrunk the same, but look like none.
        image = image + np.float32(0.004) * rng.standard_normal(image.shape, dtype=np.float32)
        stored = np.rint(np.clip(image, 0, 1) * 4095).astype(np.uint16)
        path = folder / f"film{view}.dcm"
        write_presentation(path, stored, view=view, laterality=Laterality.LEFT)
        small = mask_box(film.masks[0])
        down, across = rows / FILM_SHAPE[0], columns / FILM_SHAPE[1]
        box = Box(
            x=round(small.x * across),
            y=round(small.y * down),
            width=round(small.width * across),
            height=round(small.height * down),
        )
        films.append(Picture(path=path, view=view, box=box))
        mask = np.zeros(FILM_PIXELS, dtype=np.uint8)
        mask[box.y : box.y + box.height, box.x : box.x + box.width] = 255
        crop = cv2.resize(cut_crop(stored, mask), (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_AREA)
        path = folder / f"crop{view}.dcm"
        write_presentation(path, np.asarray(crop, dtype=np.uint16), view=view, laterality=Laterality.LEFT)
        crops.append(Picture(path=path, view=view))
    return tuple(films), tuple(crops)


def _mass() -> Lesion:
    return Lesion(
        lesion_type=LesionType.MASS,
        split=Split.TEST,
        laterality=Laterality.LEFT,
        number=1,
        views=tuple(View),
        pathology=Pathology.MALIGNANT,
        recorded_density=2,
        shape_or_type="IRREGULAR",
        margins_or_distribution="SPICULATED",
        assessment=5,
        subtlety=5,
        aggressiveness=1.5,
    )


def _warm(case: _Case, num_repeats: int) -> _Found:
    return in_child(_read_warm, case, num_repeats)


def _read_warm(case: _Case, num_repeats: int) -> _Found:
    import torch  # noqa: PLC0415, sets what only this process shall have

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    reader = Reader.open(case.release, accept_unsigned=True)
    request = LesionRequest(pictures=case.pictures, columns={})
    processor, elapsed = [], []
    for _ in range(1 + num_repeats):
        begun, begun_processor = time.perf_counter(), time.process_time()
        reading, _maps = reader.read_with_maps(request, has_maps=case.has_maps)
        processor.append(time.process_time() - begun_processor)
        elapsed.append(time.perf_counter() - begun)
        if reading.outcome is not Outcome.READ:
            raise FederatedMammographyError(f"Expected a reading, got {reading.outcome}: {reading.why[0].text}")
    # The first one loads what the others find loaded.
    return _Found(processor_seconds=processor[1:], elapsed_seconds=elapsed[1:], peak_bytes=memory_bytes(PEAK))


def _cold(case: _Case, num_repeats: int) -> _Found:
    command = ["read", "--accept-unsigned", "--release", str(case.release)]
    for picture in case.pictures:
        name = str(picture.view).lower()
        command += [f"--{name}", str(picture.path)]
        if picture.box is not None:
            box = picture.box
            command += [f"--box-{name}", f"{box.x},{box.y},{box.width},{box.height}"]
    costs = [run_fedmammo(command) for _ in range(1 + max(1, num_repeats // 4))]
    for cost in costs:
        if cost.status:
            raise FederatedMammographyError(f"Expected a reading, the command ended with status {cost.status}.")
    # The first one finds nothing in the system's cache of files.
    return _Found(
        processor_seconds=[cost.processor_seconds for cost in costs[1:]],
        elapsed_seconds=[cost.elapsed_seconds for cost in costs[1:]],
        peak_bytes=max(cost.peak_bytes for cost in costs),
    )
