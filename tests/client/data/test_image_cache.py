"""The cache on disk: what was stored comes back, what is damaged is absent, what is half-written is never seen."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.image_cache import ImageCache, cached_settings, keep_only
from shared_model.errors import DataError

SETTINGS = {"size": 128, "mode": "crop"}


def rows(*values):
    return np.array([[value, value + 0.5] for value in values], dtype=np.float32)


@pytest.fixture
def filled(tmp_path):
    """A cache that was written in two pieces."""
    cache = ImageCache(tmp_path, SETTINGS)
    cache.put(["a", "b"], rows(1, 2))
    cache.put(["c"], rows(3))
    return tmp_path


def held(folder, settings_=None):
    cache = ImageCache(folder, SETTINGS if settings_ is None else settings_)
    return {key for key in "abcd" if key in cache}


def entries_of(folder):
    """Return the one file of records."""
    (path,) = folder.rglob("entries")
    return path


HEADER, RECORD = 128, 36 + 8
"""Bytes of a file's header, and of a record of two values."""


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
    # What was written whole before the disk was full may be found again; what was there before is.
    assert held(filled) >= set("abc")
    assert not list(filled.rglob(".*.partial"))


def test_what_a_killed_process_left_half_written_is_gone_when_the_cache_is_opened(filled):
    (folder,) = cached_settings(filled)
    (folder / ".0123.npy.abc.partial").write_bytes(b"half")
    assert held(filled) == set("abc")
    assert not list(filled.rglob("*.partial"))


def test_a_cache_that_is_opened_while_another_process_erases_disturbs_nothing(filled, monkeypatch):
    """What the eraser is writing is no leftover: opening removes those that a killed process left, and only them."""
    (folder,) = cached_settings(filled)
    flush = os.fsync

    def opened_meanwhile(handle):
        monkeypatch.setattr(os, "fsync", flush)
        assert held(filled) == set("abc")
        flush(handle)

    monkeypatch.setattr(os, "fsync", opened_meanwhile)
    assert keep_only(folder, {"a"}) == 2
    assert held(filled) == {"a"}


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
    assert not list(tmp_path.rglob("entries"))


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


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize("offset", [0, 31, 32, 35, 36, 43])
def test_a_damaged_record_is_absent_alone_and_computable_again(filled, row, offset):
    path = entries_of(filled)
    content = bytearray(path.read_bytes())
    content[HEADER + row * RECORD + offset] ^= 1
    path.write_bytes(content)
    assert held(filled) == {"a", "b", "c"} - {"abc"[row]}
    cache = ImageCache(filled, SETTINGS)
    with pytest.raises(KeyError, match="abc"[row]):
        cache.get("abc"[row])
    cache.put(["abc"[row]], rows(row + 1))
    for opened in (cache, ImageCache(filled, SETTINGS)):
        assert [opened.get(key)[0] for key in "abc"] == [1, 2, 3]


def test_a_file_cut_anywhere_keeps_its_whole_records_and_grows_again(filled):
    path = entries_of(filled)
    whole = path.read_bytes()
    for length in range(0, len(whole), 3):
        path.write_bytes(whole[:length])
        kept = set("abc"[: max(0, length - HEADER) // RECORD])
        assert held(filled) == kept
        ImageCache(filled, SETTINGS).put(["d"], rows(4))
        assert held(filled) == {*kept, "d"}
        assert ImageCache(filled, SETTINGS).get("d").tolist() == [4, 4.5]


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\x93NUMPY",
        b"\0" * HEADER,
        b"[]",
        b"null",
        b'{"shape": [3]}',
        b'{"shape": 2}',
        b'{"shape": [-2]}',
        b'{"shape": [2.5]}',
        b'{"shape": [1000000000000]}',
        b'{"shape": [1000000000000000000000]}',
    ],
)
def test_a_damaged_header_makes_a_file_begin_again(filled, header):
    path = entries_of(filled)
    content = path.read_bytes()
    path.write_bytes(header.ljust(HEADER - 1) + b"\n" + content[HEADER:])
    assert held(filled) == set()
    ImageCache(filled, SETTINGS).put(["a"], rows(1))
    assert held(filled) == {"a"}
    assert ImageCache(filled, SETTINGS).get("a").tolist() == [1, 1.5]


def test_no_file_no_entries(filled):
    entries_of(filled).unlink()
    assert held(filled) == set()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_file_that_cannot_be_read_is_an_error_that_says_so(filled, monkeypatch, code):
    """Earlier: it counted as absent, and all was computed again."""
    opened, path = Path.open, entries_of(filled)

    def fail(self, *args, **kwargs):
        if self == path:
            raise OSError(code, os.strerror(code))
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(DataError, match=rf"entries: Expected an image cache that can be read: {os.strerror(code)}\."):
        ImageCache(filled, SETTINGS)


def test_a_put_that_the_disk_cuts_short_stays_in_memory_and_leaves_the_cache_as_it_was(filled, monkeypatch):
    cache, synced = ImageCache(filled, SETTINGS), os.fsync

    def fail(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    cache.put(["d"], rows(4))
    assert cache.get("d").tolist() == [4, 4.5]
    monkeypatch.setattr(os, "fsync", synced)
    assert {"a", "b", "c"} <= held(filled)


def test_a_process_killed_while_it_wrote_leaves_the_cache_as_it_was(filled):
    path = entries_of(filled)
    for length in (1, 20, RECORD - 1):
        with path.open("ab") as file:
            file.write(b"\7" * length)
        assert held(filled) == {"a", "b", "c"}
        ImageCache(filled, SETTINGS).put(["d"], rows(4))
        assert held(filled) == {"a", "b", "c", "d"}
        keep_only(folder_of(filled), "abc")


MANY = """
import resource
import sys
from pathlib import Path
import numpy as np
from client.data.image_cache import ImageCache
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
keys, arrays = [str(number) for number in range(100_000)], np.arange(100_000, dtype=np.float32)[:, None]
cache = ImageCache(Path(sys.argv[1]), {})
for start in range(0, len(keys), 64):
    cache.put(keys[start : start + 64], arrays[start : start + 64])
for opened in (cache, ImageCache(Path(sys.argv[1]), {})):
    assert all(key in opened for key in keys)
    assert all(opened.get(str(number))[0] == number for number in range(0, 100_000, 997))
"""


def test_a_hundred_thousand_entries_need_few_descriptors(tmp_path):
    """Earlier: a descriptor for each 64 entries; past the limit entries counted as absent."""
    subprocess.run([sys.executable, "-W", "error", "-c", MANY, str(tmp_path)], check=True)  # noqa: S603, a script of ours


def test_two_processes_may_fill_one_cache(tmp_path):
    one, other = ImageCache(tmp_path, SETTINGS), ImageCache(tmp_path, SETTINGS)
    one.put(["a"], rows(1))
    other.put(["b"], rows(2))
    assert ("b" in one, "a" in other) == (False, True)
    one.put(["c"], rows(3))
    assert one.get("b").tolist() == [2, 2.5]
    assert held(tmp_path) == {"a", "b", "c"}


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
    stored = b"".join(path.read_bytes() for path in filled.rglob("entries"))
    for key, row in zip("abc", rows(1, 2, 3), strict=True):
        assert (row.tobytes() in stored) == (key in kept)


def test_what_damage_and_crashes_left_goes_too(filled):
    """A damaged record, a torn one, a file half-written, shards of an earlier version: whose are they?"""
    path = entries_of(filled)
    content = bytearray(path.read_bytes())
    content[HEADER + 40] ^= 1
    path.write_bytes(content + b"torn")
    for name in (f".{'0' * 32}.entries.abc.partial", "ab.npy", "ab.index.json"):
        (folder_of(filled) / name).write_bytes(rows(1).tobytes())
    assert keep_only(folder_of(filled), "abc") == 0
    assert held(filled) == {"b", "c"}
    assert {path.name for path in folder_of(filled).iterdir()} == {"settings.json", "entries"}
    assert path.stat().st_size == HEADER + 2 * RECORD


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
