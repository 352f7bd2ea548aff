"""Runs the jobs of a study, several at the same time in processes of their own.

Every job is an ordinary run with a folder of its own: one with results is not run again, and one that was cut off goes
on from its last round, wherever it was killed. Noise apart, results depend neither on the number of processes nor on
interruptions.
"""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import NoReturn

import torch
from rich.console import Console

from shared_model import errors
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import FederatedMammographyError
from shared_model.system.processes import interrupts_held_back
from simulations.federation.simulation import simulate
from simulations.studies.jobs import Job

_CHECK_SECONDS = 1.0
"""How often the processes are counted."""
_GRACE_SECONDS = 60.0
"""Until a process that was told to stop is killed: many times the round that its sites finish first."""

JobCallback = Callable[[Job], None]


def default_workers() -> int:
    """Return how many processes run jobs unless somebody says otherwise: 2, or 1 on a single core."""
    return min(2, os.cpu_count() or 1)


def run_jobs(jobs: Sequence[Job], *, num_workers: int, on_start: JobCallback, on_done: JobCallback) -> None:
    """Run the jobs that have no results yet.

    Args:
        jobs: each with a folder of its own.
        num_workers: processes of one core each; where one is enough all is done in this one. New ones are spawned, so
            the calling script needs the usual ``if __name__ == "__main__"``.
        on_start: called in this process with every job that begins.
        on_done: called in this process with every job that has results, first of all with those that had them before.

    Raises:
        FederatedMammographyError: a run failed or its process was killed. The others are stopped; results stay.
        ValueError: ``num_workers`` is out of bounds, or two jobs share a folder.
    """
    if num_workers < 1:
        raise ValueError(f"Expected num_workers={num_workers} >= 1.")
    if len({job.folder for job in jobs}) < len(jobs):
        raise ValueError("Expected every job to have a folder of its own.")
    missing = [job for job in jobs if not job.is_finished]
    for job in jobs:
        if job.is_finished:
            on_done(job)
    if min(num_workers, len(missing)) <= 1:
        _run_here(missing, on_start, on_done)
    else:
        _run_in_processes(missing, num_workers, on_start, on_done)


def _run_here(jobs: Iterable[Job], on_start: JobCallback, on_done: JobCallback) -> None:
    for job in jobs:
        on_start(job)
        try:
            simulate(job.config, Console(quiet=True))
        except FederatedMammographyError as error:
            raise _named(job, error) from error
        on_done(job)


def _named(job: Job, error: FederatedMammographyError) -> FederatedMammographyError:
    # For instance a run that other code began: the study, and no person, names its folder.
    return type(error)(f"{job.name}: {error} To run it anew, remove {job.folder}.")


def _run_in_processes(jobs: Iterable[Job], num_workers: int, on_start: JobCallback, on_done: JobCallback) -> None:
    # No job waits in the pool's own queue, so that a process which is told to stop has nothing to go on with.
    waiting, running = deque(jobs), dict[Future[str], Job]()
    try:
        with _workers(num_workers) as pool:
            while waiting or running:
                while waiting and len(running) < num_workers:
                    job = waiting.popleft()
                    on_start(job)
                    running[_submit(pool, job)] = job
                done = wait(running, timeout=_CHECK_SECONDS, return_when=FIRST_COMPLETED).done
                if not done and len(multiprocessing.active_children()) < len(running):
                    # The pool looks at a process that was started last only when something else wakes it.
                    pool.submit(int)
                for future in done:
                    _require_success(running[future], future.result())
                    on_done(running.pop(future))
    except BrokenProcessPool as error:
        if error.__cause__ is not None:
            # An exception that cannot travel between processes; its traceback is the cause.
            raise
        names = " or ".join(job.name for job in running.values())
        raise FederatedMammographyError(
            f"Expected every process to finish its run, that of {names} was killed, perhaps for want of memory. "
            "The same command goes on where this one stopped."
        ) from error


def _require_success(job: Job, failure: str) -> None:
    if failure:
        kind, message = json.loads(failure)
        raise _named(job, getattr(errors, kind)(message))


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Yield new processes, which are gone when the block ends, at once where it ends badly."""
    others = set(multiprocessing.active_children())
    # New processes read it when they load their libraries; this one has loaded them.
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        _end([process for process in multiprocessing.active_children() if process not in others])
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, job: Job) -> "Future[str]":
    """Start a job, in a new process as long as there are too few; Ctrl-C never reaches one."""
    with interrupts_held_back():
        return pool.submit(_run, job.config.to_json())


def _end(processes: Sequence[BaseProcess]) -> None:
    """Stop processes, by force if they do not go."""
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()


def _start_worker() -> None:
    """Compute on one core, and do not outlive the parent."""
    torch.set_num_threads(1)
    threading.Thread(target=_stop_with_parent, daemon=True).start()


def _stop_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS)
        os._exit(1)


def _run(config: str) -> str:
    """Run one job in this process.

    Returns:
        Class and message of what went wrong as JSON; nothing if all went well.
    """
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        simulate(ExperimentConfig.from_json(config), Console(quiet=True))
    except FederatedMammographyError as error:
        return json.dumps([type(error).__name__, str(error)])
    except KeyboardInterrupt:
        _leave()
    finally:
        signal.signal(signal.SIGTERM, before)
    return ""


def _interrupt(*_: object) -> NoReturn:
    """Stop the run as Ctrl-C would, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _leave() -> NoReturn:
    """End this process as soon as its sites have finished their round, so that no reservation waits for its reply."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    os._exit(1)
