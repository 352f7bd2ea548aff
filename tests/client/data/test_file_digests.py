"""Digests are those of the content, follow it, and are remembered; nothing is read of what is no image file."""

import hashlib
import json
import os

import pytest

from client.data.file_digests import FileDigests
from shared_model.errors import DicomError


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.dcm"
    path.write_bytes(b"pixels")
    return path


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_digest_is_that_of_the_content_and_is_remembered(tmp_path, image, monkeypatch):
    memory = tmp_path / "digests.json"
    digests = FileDigests(memory)
    assert digests.digest(image) == sha256(b"pixels")
    digests.save()
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
    assert digests.digest(image) == sha256(b"pixels")
    assert FileDigests(memory).digest(image) == sha256(b"pixels")


@pytest.mark.parametrize("content", [b"other size", b"PIXELS"])
def test_digest_follows_size_and_modification_time(tmp_path, image, content):
    digests = FileDigests(tmp_path / "digests.json")
    digests.digest(image)
    digests.save()
    before = image.stat()
    image.write_bytes(content)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + (1 if len(content) == 6 else 0)))
    for again in (digests, FileDigests(tmp_path / "digests.json")):
        assert again.digest(image) == sha256(content)


def test_equal_content_has_one_digest_under_two_names(tmp_path, image):
    (tmp_path / "copy.dcm").write_bytes(b"pixels")
    digests = FileDigests(tmp_path / "digests.json")
    assert digests.digest(image) == digests.digest(tmp_path / "copy.dcm")


def test_a_missing_file_is_an_os_error_even_if_it_was_known(tmp_path, image):
    digests = FileDigests(tmp_path / "digests.json")
    digests.digest(image)
    image.unlink()
    with pytest.raises(FileNotFoundError, match=r"image\.dcm"):
        digests.digest(image)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "Expected a file, got a pipe"),
        (os.mkdir, "Expected a file, got a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "Expected a file, got a device"),
        (lambda path: path.touch(), r"got an empty file \(0 bytes\); copy or export it again"),
        (
            lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**40),
            "Expected file size=1099511627776 <=",
        ),
    ],
)
def test_nothing_is_read_of_what_is_no_image_file(tmp_path, monkeypatch, make, message):
    path = tmp_path / "image.dcm"
    make(path)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read"))
    with pytest.raises(DicomError, match=rf"image\.dcm: .*{message}"):
        FileDigests(tmp_path / "digests.json").digest(path)


def test_nothing_is_written_without_news(tmp_path, image):
    memory = tmp_path / "digests.json"
    FileDigests(memory).save()
    assert not memory.exists()
    digests = FileDigests(memory)
    digests.digest(image)
    digests.save()
    written = memory.stat().st_mtime_ns, memory.stat().st_ino
    digests.digest(image)
    digests.save()
    assert (memory.stat().st_mtime_ns, memory.stat().st_ino) == written


@pytest.mark.parametrize(
    "text",
    ["", "{", "\0\0", "[]", "3", '{"IMAGE": 3}', '{"IMAGE": null}', '{"IMAGE": []}', '{"IMAGE": [6, MTIME]}'],
)
def test_a_damaged_memory_is_begun_again(tmp_path, image, text):
    memory = tmp_path / "digests.json"
    memory.write_text(text.replace("IMAGE", str(image)).replace("MTIME", str(image.stat().st_mtime_ns)))
    digests = FileDigests(memory)
    assert digests.digest(image) == sha256(b"pixels")
    digests.save()
    assert json.loads(memory.read_text())[str(image)][2] == sha256(b"pixels")


def test_files_may_be_forgotten(tmp_path, image):
    other = tmp_path / "other.dcm"
    other.write_bytes(b"more")
    digests = FileDigests(tmp_path / "digests.json")
    for path in (image, other):
        digests.digest(path)
    digests.keep_only([image])
    digests.save()
    assert set(json.loads((tmp_path / "digests.json").read_text())) == {str(image)}
