"""Measurements in a process of their own, so that memory is that of nothing else."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from shared_model.errors import FederatedMammographyError

_Arguments = ParamSpec("_Arguments")
_Found = TypeVar("_Found")


def in_child(action: Callable[_Arguments, _Found], *arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Found:
    """Return what ``action`` returns in a new process; action, arguments and result are pickled.

    Raises:
        FederatedMammographyError: the process was killed.
    """
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(action, *arguments, **options).result()
    except BrokenProcessPool as error:
        if error.__cause__ is not None:
            # An exception that cannot travel between processes; its traceback is the cause.
            raise
        raise FederatedMammographyError(
            "Expected the process to end, it was killed, perhaps for want of memory; measure something smaller."
        ) from error
