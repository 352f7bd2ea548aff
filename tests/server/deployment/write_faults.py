"""Faults at a chosen write: what a process does to files is seen by an audit hook, before it is done.

A write is any opening for writing, and any making, renaming or removing of a file or folder.
"""

import errno
import functools
import itertools
import os
import sys
import threading
import warnings
from contextlib import contextmanager

_MAKING = {"os.mkdir"}
_OTHERS = {"os.rename", "os.remove", "os.rmdir"}
_KILLED = 86


class _Faults:
    thread = None
    num_left = 0
    fail = None


def _hook(event, arguments):
    if _Faults.thread != threading.get_ident():
        return
    makes = event in _MAKING or (event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR)))
    if not makes and event not in _OTHERS:
        return
    if _Faults.num_left > 0:
        _Faults.num_left -= 1
    else:
        _Faults.fail(makes)


sys.addaudithook(_hook)


@contextmanager
def _failing(num_writes, fail):
    _Faults.num_left, _Faults.fail, _Faults.thread = num_writes, fail, threading.get_ident()
    try:
        yield
    finally:
        _Faults.thread = None


def killed_at_every_write(make, change):
    """Yield what ``make`` returned after a process that did ``change`` with it was killed, at every write in turn."""
    for num_writes in itertools.count():
        subject = make()
        if not _is_killed(functools.partial(change, subject), after=num_writes):
            return
        yield subject


def _is_killed(change, *, after):
    with warnings.catch_warnings():
        # The child uses no thread of ours.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        with _failing(after, lambda makes: os._exit(_KILLED)):
            change()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, _KILLED}
    return status == _KILLED


@contextmanager
def full_disk(*, after):
    """After so many writes nothing can be made any more, while files can be renamed and removed."""

    def fail(makes):
        if makes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with _failing(after, fail):
        yield
