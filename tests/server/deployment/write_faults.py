"""Faults at a chosen write: what a process does to files is seen by an audit hook, before it is done.

A write is any opening for writing, and any making, renaming or removing of a file or folder.
"""

import errno
import os
import shutil
import sys
import threading
from contextlib import contextmanager

_MAKING = {"os.mkdir"}
_OTHERS = {"os.rename", "os.remove", "os.rmdir"}


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
    """Return copies of what ``make`` returned, a folder: as a process that is killed during ``change`` leaves it.

    There is one for every write, in their order. Who is killed before a write leaves on the disk what stands there at
    that moment: what is still in a buffer is lost, and no handler of the process runs.
    """
    subject, copies = make(), []

    def keep(_makes):
        _Faults.thread = None
        copies.append(subject.with_name(f"{subject.name}-killed-{len(copies)}"))
        shutil.copytree(subject, copies[-1], symlinks=True)
        _Faults.thread = threading.get_ident()

    with _failing(0, keep):
        change(subject)
    return copies


@contextmanager
def full_disk(*, after):
    """After so many writes nothing can be made any more, while files can be renamed and removed."""

    def fail(makes):
        if makes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with _failing(after, fail):
        yield
