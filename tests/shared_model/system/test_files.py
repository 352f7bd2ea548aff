"""Atomic writes: the old content or the new, nothing beside it, for the owner only."""

import errno
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.system.files import held, partial_folder, remove_abandoned, write_atomically

ROOT = Path(__file__).parents[3]
STOP_AT_RENAMING = """
import sys, time
from pathlib import Path
from shared_model.system.files import write_atomically
Path.replace = lambda *_: print("written", flush=True) or time.sleep(600)
write_atomically(Path(sys.argv[1]), b"half")
"""


class DiskFullError(OSError):
    """Stands for a disk that refuses."""


@settings(max_examples=20)
@given(st.binary(max_size=64), st.binary(max_size=64))
def test_content_is_what_was_written_last(tmp_path_factory, first, second):
    path = tmp_path_factory.mktemp("files") / "a"
    write_atomically(path, first)
    write_atomically(path, second)
    assert path.read_bytes() == second
    assert os.listdir(path.parent) == ["a"]  # noqa: PTH208, hidden files count too


def test_missing_folders_are_made_and_only_the_owner_may_read(tmp_path):
    path = tmp_path / "a" / "b" / "c.json"
    write_atomically(path, b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_others_could_read_becomes_private(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_atomically(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_content_and_no_partial_file(tmp_path, monkeypatch, step):
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def fail(*_arguments):
        raise DiskFullError("no space left")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(DiskFullError, match="no space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_content_is_on_disk_before_the_name_points_to_it(tmp_path, monkeypatch):
    path, order = tmp_path / "a", []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(handle):
        status = os.fstat(handle)
        order.append(("flush folder" if stat.S_ISDIR(status.st_mode) else "fsync", path.exists()))
        fsync(handle)

    def note_replace(source, target):
        order.append(("replace", path.exists()))
        assert source.stat().st_size == 5
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_atomically(path, b"12345")
    assert order == [("fsync", False), ("replace", False), ("flush folder", True)]


def test_concurrent_writers_leave_one_whole_content(tmp_path):
    path = tmp_path / "a"
    contents = [bytes([i]) * 10_000 for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_atomically(path, content), contents))
    assert path.read_bytes() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.fixture
def writer(tmp_path):
    """Another process that has written ``a [b]`` and not renamed it yet."""
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", STOP_AT_RENAMING, str(tmp_path / "a [b]")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"written\n"
        yield process
        process.kill()


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_what_a_killed_writer_left_is_removed_by_the_next_one_of_the_same_file(tmp_path, writer):
    kill(writer)
    (left,) = names_in(tmp_path)
    assert left.startswith(".a [b].")
    write_atomically(tmp_path / "another", b"x")
    assert names_in(tmp_path) == [left, "another"]
    write_atomically(tmp_path / "a [b]", b"whole")
    assert names_in(tmp_path) == ["a [b]", "another"]


def test_what_a_living_writer_holds_stays(tmp_path, writer):
    write_atomically(tmp_path / "a [b]", b"whole")
    remove_abandoned(tmp_path)
    assert len(names_in(tmp_path)) == 2


def test_what_is_abandoned_in_a_folder_goes_whatever_its_name_and_nothing_else(tmp_path, writer):
    kill(writer)
    (tmp_path / "a.partial").write_text("mine")
    (tmp_path / ".b.partialx").write_text("mine")
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / ".link.partial").symlink_to(target)
    remove_abandoned(tmp_path)
    assert names_in(tmp_path) == [".b.partialx", ".link.partial", "a.partial", "target"]


def test_a_folder_that_is_filled_is_held_and_goes_when_it_is_not(tmp_path):
    folder = partial_folder(tmp_path / "data")
    (folder / "inside").mkdir(parents=True)
    with held(folder):
        remove_abandoned(tmp_path, "data")
        assert folder.exists()
    remove_abandoned(tmp_path, "other")
    assert folder.exists()
    remove_abandoned(tmp_path, "data")
    assert not folder.exists()


def test_without_locks_of_the_file_system_files_are_written_and_nothing_is_removed(tmp_path, monkeypatch):
    (tmp_path / ".a.1.partial").write_text("left")

    def refuse(*_arguments):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    write_atomically(tmp_path / "a", b"new")
    assert names_in(tmp_path) == [".a.1.partial", "a"]


def test_a_full_disk_is_told_with_the_file(tmp_path):
    """A limit on the size of files stands for a full disk: the system names no file for a write that fails either."""
    code = """
import resource, sys
from pathlib import Path
from shared_model.system.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
try:
    write_atomically(Path(sys.argv[1]), bytes(11))
except OSError as error:
    print(error)
"""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, str(tmp_path / "a")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"[Errno {errno.EFBIG}] File too large: '{tmp_path / 'a'}'\n"
    assert names_in(tmp_path) == []
