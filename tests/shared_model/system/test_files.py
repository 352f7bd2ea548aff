"""Atomic writes: the old content or the new, nothing beside it, for the owner only."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.system.files import write_atomically


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
