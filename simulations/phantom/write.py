"""Writes the phantom, a synthetic CBIS-DDSM: the real data set's folders, tables and peculiarities, with other pixels.

``fedmammo phantom --out FOLDER`` writes it; ``write_phantom`` is the same from code. The peculiarities are those that a
reader of the real data set must survive: line breaks inside path cells, ``000000.dcm`` in the table
where the file is ``1-1.dcm``, ``breast density`` beside ``breast_density``, swapped crops and masks, masks of another
size, both folder layouts, density 0, empty and joined descriptors, and patients who are in both official splits.
"""

import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2

from shared_model.errors import DataError
from shared_model.system.files import held, partial_folder, remove_abandoned
from shared_model.system.processes import interrupts_held_back
from simulations.phantom.case_tables import write_tables
from simulations.phantom.dicom_files import write_patient
from simulations.phantom.file_plan import LesionView, plan_views
from simulations.phantom.population import draw_patients

MARKER = "phantom.json"
GENERATOR_VERSION = 1
"""Counts up with every change to what is written."""

_WORTH_A_PROCESS = 150
"""Patients whose films take longer to draw than a process takes to start."""


def write_phantom(
    root: Path,
    *,
    num_patients: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
    num_workers: int | None = None,
) -> None:
    """Write a synthetic CBIS-DDSM to ``root``, or return at once if exactly this one is there.

    The same ``num_patients`` and ``seed`` give the same bytes. Everything is written to a hidden folder beside
    ``root``, which is renamed at the end: what is at ``root`` is complete. An interrupted call removes that folder, and
    the next call what a killed one has left.

    Args:
        root: absent, or an empty folder; its parents are made.
        num_patients: at least 12.
        seed: root seed.
        progress: called in this process with the number of patients written so far.
        num_workers: processes; with 1 all is done in this one. None takes 2 where there is enough to do. New ones
            are spawned, so the calling script needs the usual ``if __name__ == "__main__"``.

    Raises:
        DataError: ``root`` holds something else, or one of the processes was killed.
        ValueError: ``num_patients`` or ``num_workers`` is out of bounds.
        OSError: a file cannot be written.
    """
    if num_workers is None:
        num_workers = 1 if num_patients < _WORTH_A_PROCESS else 2
    if num_workers < 1:
        raise ValueError(f"Expected num_workers={num_workers} >= 1.")
    marker = _marker(num_patients, seed)
    if _must_be_written(root, marker):
        patients = draw_patients(num_patients, seed)
        plan = plan_views(patients, seed)
        with _published(root, marker) as folder:
            _write_images(folder, list(plan.values()), seed, progress=progress, num_workers=num_workers)
            write_tables(folder, patients, [view for views in plan.values() for view in views])


def _marker(num_patients: int, seed: int) -> bytes:
    facts = {"generator_version": GENERATOR_VERSION, "num_patients": num_patients, "seed": seed}
    return (json.dumps(facts, indent=2) + "\n").encode()


def _must_be_written(root: Path, marker: bytes) -> bool:
    """Return whether ``root`` is free; false where this very phantom lies there already.

    Raises:
        DataError: ``root`` is taken by something else.
    """
    if (root / MARKER).is_file() and (root / MARKER).read_bytes() == marker:
        return False
    if root.exists() and not (root.is_dir() and next(root.iterdir(), None) is None):
        facts = json.dumps(json.loads(marker))
        raise DataError(f"Expected root={root} to be absent, an empty folder, or the phantom {facts}.")
    return True


@contextmanager
def _published(root: Path, marker: bytes) -> Iterator[Path]:
    """Yield a folder that becomes ``root`` when the block ends well, and is removed otherwise."""
    root.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(root.parent, root.name)
    folder = partial_folder(root)
    folder.mkdir()
    try:
        with held(folder):
            yield folder
        (folder / MARKER).write_bytes(marker)
        try:
            folder.rename(root)
        except OSError:
            # Another process may have put the same phantom there meanwhile.
            if _must_be_written(root, marker):
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_images(
    root: Path,
    plan: Sequence[Sequence[LesionView]],
    seed: int,
    *,
    progress: Callable[[int], None] | None,
    num_workers: int,
) -> None:
    task = partial(write_patient, root, seed=seed)
    if num_workers == 1:
        _report_each(map(task, plan), progress)
        return
    executor = ProcessPoolExecutor(
        max_workers=num_workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        with interrupts_held_back():
            finished = executor.map(task, plan, chunksize=4)
        _report_each(finished, progress)
    except BrokenProcessPool as error:
        raise DataError(
            "Expected every process to write its share of the phantom, one was killed, perhaps for want of memory. "
            "Nothing was written; run it again."
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _report_each(finished: Iterable[None], progress: Callable[[int], None] | None) -> None:
    for number, _ in enumerate(finished, start=1):
        if progress is not None:
            progress(number)


def _start_worker() -> None:
    """Do not outlive the parent, which alone is interrupted and then stops this process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    cv2.setNumThreads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
