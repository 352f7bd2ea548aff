"""The cache on disk: what was stored comes back, what is damaged is absent, what is half-written is never seen."""

import errno
import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.image_cache import FileDigests, ImageCache, cached_settings, keep_only

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


def test_a_full_disk_is_one_line_that_says_what_and_where(filled, monkeypatch, caplog):
    """The arrays are used all the same: whether there is room must not show in an answer."""

    def fail(_file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cache = ImageCache(filled, SETTINGS)
    monkeypatch.setattr(os, "fsync", fail)
    cache.put(["d"], rows(4))
    assert cache.get("d").tolist() == [4, 4.5]
    (line,) = caplog.messages
    assert line.startswith("The image cache cannot be written: [Errno 28] No space left on device: ")
    assert str(filled) in line
    monkeypatch.undo()
    assert held(filled) == set("abc")
    assert not list(filled.rglob(".*.partial"))


def test_what_a_killed_process_left_half_written_is_gone_when_the_cache_is_opened(filled):
    (folder,) = cached_settings(filled)
    (folder / ".0123.npy.abc.partial").write_bytes(b"half")
    assert held(filled) == set("abc")
    assert not list(filled.rglob("*.partial"))


def test_an_absent_key_is_a_key_error(filled):
    with pytest.raises(KeyError, match="d"):
        ImageCache(filled, SETTINGS).get("d")


@settings(max_examples=30)
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


# Erasing


def folder_of(folder):
    (cache,) = cached_settings(folder)
    return cache


@pytest.mark.parametrize("kept", ["", "a", "b", "c", "ab", "ac", "bc", "abc", "abcd"])
def test_what_is_not_kept_is_gone_from_the_disk(filled, kept):
    assert keep_only(folder_of(filled), kept) == 3 - len(set(kept) & set("abc"))
    assert held(filled) == set(kept) & set("abc")
    cache = ImageCache(filled, SETTINGS)
    values = {key: cache.get(key).tolist() for key in "abc" if key in cache}
    assert values == {key: value for key, value in {"a": [1, 1.5], "b": [2, 2.5], "c": [3, 3.5]}.items() if key in kept}
    stored = b"".join(path.read_bytes() for path in filled.rglob("*.npy"))
    for key, row in zip("abc", rows(1, 2, 3), strict=True):
        assert (row.tobytes() in stored) == (key in kept)


def test_what_damage_and_crashes_left_goes_too(filled):
    """A shard without index, an index without shard, a file half-written: nobody can tell whose they are."""
    shard_of(filled, "a", ".index.json").write_text("{")
    (folder_of(filled) / f".{'0' * 32}.npy.abc.partial").write_bytes(saved(rows(1)))
    assert keep_only(folder_of(filled), "abc") == 0
    assert held(filled) == {"c"}
    assert len(list(folder_of(filled).iterdir())) == 3


def test_a_crash_while_erasing_leaves_the_others_and_is_made_good_by_erasing_again(filled, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt("power")))
        with pytest.raises(KeyboardInterrupt, match="power"):
            keep_only(folder_of(filled), "bc")
    assert {"b", "c"} <= held(filled)
    keep_only(folder_of(filled), "bc")
    assert held(filled) == {"b", "c"}


def test_an_open_cache_goes_on_after_others_erased(filled):
    opened = ImageCache(filled, SETTINGS)
    keep_only(folder_of(filled), "b")
    assert opened.get("b").tolist() == [2, 2.5]
    opened.put(["d"], rows(4))
    assert held(filled) == {"b", "d"}


def test_a_cache_that_is_gone_has_nothing_to_erase(filled):
    assert keep_only(filled / "gone", "a") == 0


def test_settings_are_found_by_folder(filled):
    ImageCache(filled, {"size": 64})
    assert {settings.get("size") for settings in cached_settings(filled).values()} == {64, 128}
    (folder_of_size(filled, 64) / "settings.json").write_text("[")
    assert sorted(settings.get("size", 0) for settings in cached_settings(filled).values()) == [0, 128]
    assert cached_settings(filled / "none") == {}


def folder_of_size(folder, size):
    return next(path for path, settings in cached_settings(folder).items() if settings.get("size") == size)


# Quota


def filled_cache(folder, size, *, used_at, count=4):
    """A cache of ``count`` arrays of 400 bytes, last opened at ``used_at``."""
    ImageCache(folder, {"size": size}).put([f"{size}-{n}" for n in range(count)], np.ones((count, 100), np.float32))
    os.utime(folder_of_size(folder, size) / "settings.json", ns=(used_at, used_at))


def sizes_on_disk(folder):
    return {settings["size"] for settings in cached_settings(folder).values()}


def num_bytes(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_caches_that_were_used_longest_ago_go_first(tmp_path):
    for number, size in enumerate((3, 1, 2)):
        filled_cache(tmp_path, size, used_at=10**18 + number)
    quota = num_bytes(tmp_path) + 500
    ImageCache(tmp_path, {"size": 4}, max_bytes=quota).put(["x"], np.ones((1, 100), np.float32))
    assert sizes_on_disk(tmp_path) == {1, 2, 4}
    assert num_bytes(tmp_path) <= quota


def test_opening_a_cache_is_using_it(tmp_path):
    for number, size in enumerate((3, 1, 2)):
        filled_cache(tmp_path, size, used_at=10**18 + number)
    ImageCache(tmp_path, {"size": 3})
    ImageCache(tmp_path, {"size": 4}, max_bytes=num_bytes(tmp_path) + 500).put(["x"], np.ones((1, 100), np.float32))
    assert sizes_on_disk(tmp_path) == {2, 3, 4}


def test_what_does_not_fit_stays_in_memory(tmp_path):
    filled_cache(tmp_path, 1, used_at=10**18)
    cache = ImageCache(tmp_path, {"size": 2}, max_bytes=1300)
    cache.put(["x"], np.ones((1, 100), np.float32))
    cache.put(["y", "z"], np.full((2, 100), 2, np.float32))
    assert [float(cache.get(key)[0]) for key in "xyz"] == [1, 2, 2]
    assert ["x" in ImageCache(tmp_path, {"size": 2}), "y" in ImageCache(tmp_path, {"size": 2})] == [True, False]
    assert sizes_on_disk(tmp_path) == {2}
    assert num_bytes(tmp_path) <= 1300


@pytest.mark.parametrize("max_bytes", [None, 10**9])
@pytest.mark.parametrize(("num_free", "is_stored"), [(2**30 + 2000, True), (2**30 + 100, False), (0, False)])
def test_a_gibibyte_of_the_disk_stays_free(tmp_path, monkeypatch, max_bytes, num_free, is_stored):
    """Earlier: a cache took the last byte, and whether the ledger found space for a reply told how many images were."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=num_free))
    cache = ImageCache(tmp_path, SETTINGS, max_bytes=max_bytes)
    cache.put(["a"], rows(1))
    assert "a" in cache
    assert held(tmp_path) == ({"a"} if is_stored else set())


def test_without_a_quota_nothing_goes(tmp_path):
    for number, size in enumerate((3, 1, 2)):
        filled_cache(tmp_path, size, used_at=10**18 + number)
    assert sizes_on_disk(tmp_path) == {1, 2, 3}


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


def test_files_may_be_forgotten(tmp_path, image):
    other = tmp_path / "other.dcm"
    other.write_bytes(b"more")
    digests = FileDigests(tmp_path / "digests.json")
    for path in (image, other):
        digests.digest(path)
    digests.keep_only([image])
    digests.save()
    assert set(json.loads((tmp_path / "digests.json").read_text())) == {str(image)}
