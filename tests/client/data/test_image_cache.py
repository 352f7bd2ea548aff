"""The cache on disk: what was stored comes back, what is damaged is absent, what is half-written is never seen."""

import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.image_cache import FileDigests, ImageCache

SETTINGS = {"size": 128, "mode": "crop"}


def rows(*values):
    return np.array([[value, value + 0.5] for value in values], dtype=np.float32)


@pytest.fixture
def filled(tmp_path):
    """A cache of two shards."""
    cache = ImageCache(tmp_path, SETTINGS)
    cache.put(["a", "b"], rows(1, 2))
    cache.put(["c"], rows(3))
    return tmp_path


def held(folder, settings_=None):
    cache = ImageCache(folder, SETTINGS if settings_ is None else settings_)
    return {key for key in "abcd" if key in cache}


def shard_of(folder, key, suffix):
    """Return the index or values file of the shard that holds ``key``."""
    (index,) = [path for path in folder.rglob("*.index.json") if key in json.loads(path.read_text())["keys"]]
    return index if suffix == ".index.json" else index.with_name(json.loads(index.read_text())["values"])


def test_what_was_put_is_there_at_once_and_after_reopening(filled):
    for cache in (ImageCache(filled, SETTINGS), ImageCache(filled, SETTINGS)):
        assert cache.get("a").tolist() == [1, 1.5]
        assert cache.get("b").tolist() == [2, 2.5]
        assert cache.get("c").tolist() == [3, 3.5]
        assert cache.get("c").dtype == np.float32
        assert "d" not in cache


def test_an_absent_key_is_a_key_error(filled):
    with pytest.raises(KeyError, match="d"):
        ImageCache(filled, SETTINGS).get("d")


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.text(max_size=6), unique=True, max_size=4), max_size=3),
    st.sampled_from([(), (3,), (1, 2, 2), (0,)]),
)
def test_any_keys_and_shapes_survive_reopening(tmp_path_factory, shards, shape):
    folder = tmp_path_factory.mktemp("cache")
    cache = ImageCache(folder, {})
    entries = {key: np.full(shape, number, np.float32) for number, key in enumerate(sorted(set().union(*shards)))}
    for keys in shards:
        cache.put(keys, np.array([entries[key] for key in keys], np.float32).reshape(len(keys), *shape))
    for opened in (cache, ImageCache(folder, {})):
        for key, entry in entries.items():
            assert key in opened
            assert opened.get(key).shape == shape
            assert np.array_equal(opened.get(key), entry)


def test_entries_are_mapped_and_cannot_be_overwritten(filled):
    entry = ImageCache(filled, SETTINGS).get("a")
    with pytest.raises(ValueError, match="read-only"):
        entry[0] = 9


def test_arrays_are_stored_as_contiguous_float32(tmp_path):
    cache = ImageCache(tmp_path, SETTINGS)
    cache.put(["a", "b"], np.arange(8, dtype=np.float64).reshape(4, 2)[::2])
    assert cache.get("b").tolist() == [4, 5]
    assert cache.get("b").dtype == np.float32


def test_keys_and_arrays_must_be_equally_many(tmp_path):
    cache = ImageCache(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match="Expected as many keys as arrays, got 1 and 2"):
        cache.put(["a"], rows(1, 2))
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize("other", [{"size": 64, "mode": "crop"}, {"size": 128}, {}, {"size": "128", "mode": "crop"}])
def test_other_settings_are_another_cache(filled, other):
    assert held(filled) == {"a", "b", "c"}
    assert held(filled, other) == set()
    ImageCache(filled, other).put(["a"], rows(7))
    assert ImageCache(filled, other).get("a").tolist() == [7, 7.5]
    assert ImageCache(filled, SETTINGS).get("a").tolist() == [1, 1.5]


def test_the_order_of_settings_does_not_matter(filled):
    assert held(filled, {"mode": "crop", "size": 128}) == {"a", "b", "c"}


def test_the_folder_says_which_settings_it_holds(filled):
    (written,) = filled.rglob("settings.json")
    assert json.loads(written.read_text()).items() >= SETTINGS.items()


def saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\x93NUMPY",
        b"\0" * 200,
        b"PK\x03\x04",
        saved(rows(1, 2))[:-1],
        saved(rows(1, 2))[:50],
        saved(rows(1)),
        saved(rows(1, 2, 3)),
        saved(rows(1, 2).astype(np.float64)),
        saved(np.float32(1)),
        saved(np.array(["a", {}], dtype=object)),
    ],
)
def test_a_damaged_values_file_makes_its_entries_absent_and_computable_again(filled, content):
    path = shard_of(filled, "a", ".npy")
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert held(filled) == {"c"}
    ImageCache(filled, SETTINGS).put(["a", "b"], rows(1, 2))
    assert held(filled) == {"a", "b", "c"}
    assert ImageCache(filled, SETTINGS).get("b").tolist() == [2, 2.5]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "\0" * 40,
        "[]",
        "3",
        "null",
        '{"keys": ["a", "b"]}',
        '{"values": "VALUES"}',
        '{"values": 3, "keys": ["a", "b"]}',
        '{"values": "none.npy", "keys": ["a", "b"]}',
        '{"values": ".", "keys": ["a", "b"]}',
        '{"values": "VALUES", "keys": 3}',
        '{"values": "VALUES", "keys": null}',
        '{"values": "VALUES", "keys": ["a"]}',
        '{"values": "VALUES", "keys": ["a", "b", "d"]}',
    ],
)
def test_a_damaged_index_makes_its_entries_absent(filled, text):
    values = shard_of(filled, "a", ".npy")
    shard_of(filled, "a", ".index.json").write_text(text.replace("VALUES", values.name))
    assert held(filled) == {"c"}


def test_a_truncated_index_is_never_partly_read(filled):
    path = shard_of(filled, "a", ".index.json")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert held(filled) == {"c"}


def test_values_without_an_index_are_not_seen(filled):
    shard_of(filled, "a", ".index.json").unlink()
    assert held(filled) == {"c"}


@pytest.mark.parametrize("failing", [0, 1])
def test_an_interrupted_put_leaves_the_cache_as_it_was(filled, monkeypatch, failing):
    """The first rename is that of the values, the second that of the index."""
    cache, num_renames, replace = ImageCache(filled, SETTINGS), iter(range(10)), Path.replace

    def interrupted(source, target):
        if next(num_renames) == failing:
            raise KeyboardInterrupt("power")
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt, match="power"):
        cache.put(["d"], rows(4))
    monkeypatch.undo()
    assert "d" not in cache
    assert held(filled) == {"a", "b", "c"}
    assert not list(filled.rglob("*.partial"))


def test_files_of_a_killed_process_are_not_seen(filled):
    index, values = shard_of(filled, "a", ".index.json"), shard_of(filled, "a", ".npy")
    killed = json.dumps({"values": values.name, "keys": ["d", "e"]})
    (index.parent / f".{'0' * 32}.index.json.abc.partial").write_text(killed)
    assert held(filled) == {"a", "b", "c"}


def test_two_processes_may_fill_one_cache(tmp_path):
    one, other = ImageCache(tmp_path, SETTINGS), ImageCache(tmp_path, SETTINGS)
    one.put(["a"], rows(1))
    other.put(["b"], rows(2))
    assert ("b" in one, "a" in other) == (False, False)
    assert held(tmp_path) == {"a", "b"}


# Digests


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
