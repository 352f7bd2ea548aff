"""Files that change together: what is left when the process is killed at any write, and whom the journal trusts."""

import os
import stat

import pytest

from server.deployment import joint_change
from server.deployment.joint_change import change_together, finish_change, has_unfinished_change
from shared_model.errors import ConfigError
from tests.server.deployment.write_faults import full_disk, killed_at_every_write

BEFORE = {"a": b"1", "b/c": b"2", "b/gone": b"3", "other": b"4"}
CHANGE = {"a": b"one", "new/folder/d": b"five", "b/gone": None, "b/c": b"two", "never": None}
AFTER = {"a": b"one", "b/c": b"two", "new/folder/d": b"five", "other": b"4"}


@pytest.fixture
def fresh(tmp_path):
    """Return a new folder with the files, as often as it is called."""

    def make():
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, content in BEFORE.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    return make


@pytest.fixture
def decided(fresh):
    """Return a new folder with a change that was cut off right after it was made, as often as it is called."""

    def make():
        folder = fresh()
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(joint_change, "_finish", lambda _folder: [])
            change(folder)
        assert has_unfinished_change(folder)
        assert contents(folder) == BEFORE
        return folder

    return make


def change(folder):
    change_together(folder, CHANGE)


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".change" not in path.relative_to(folder).parts[0]
    }


def test_all_of_it(fresh):
    folder = fresh()
    change(folder)
    assert contents(folder) == AFTER
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_killed_at_any_write_it_is_as_before_or_complete(fresh):
    outcomes = []
    for folder in killed_at_every_write(fresh, change):
        finish_change(folder)
        outcomes.append(contents(folder))
        assert outcomes[-1] in (BEFORE, AFTER)
        assert not has_unfinished_change(folder)
        # Whatever is left does not disturb the next change.
        change(folder)
        assert contents(folder) == AFTER
        assert not (folder / ".change.unfinished").exists()
    # Once complete, always complete.
    assert outcomes == sorted(outcomes, key=lambda files: files == AFTER)
    assert outcomes[0] == BEFORE
    assert outcomes[-1] == AFTER


def test_finishing_may_be_killed_too(decided):
    num_kills = 0
    for folder in killed_at_every_write(decided, finish_change):
        finish_change(folder)
        assert contents(folder) == AFTER
        num_kills += 1
    assert num_kills > len(CHANGE)


def test_a_full_disk(fresh):
    num_writes, is_whole = 0, False
    while not is_whole:
        folder = fresh()
        try:
            with full_disk(after=num_writes):
                change(folder)
            is_whole = True
        except OSError:
            is_decided = has_unfinished_change(folder)
            finish_change(folder)
            assert contents(folder) == (AFTER if is_decided else BEFORE)
        num_writes += 1
    assert num_writes > len(CHANGE)


def test_finishing_says_what_it_did(fresh, decided, caplog):
    finish_change(fresh())
    assert caplog.messages == []
    folder = decided()
    finish_change(folder)
    assert caplog.messages == [
        f"Finished a change of {folder} that had been cut off: a, new/folder/d, b/gone, b/c, never."
    ]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_only_the_owner_reads_it(fresh, umask):
    folder, before = fresh(), os.umask(umask)
    try:
        change(folder)
    finally:
        os.umask(before)
    for name in ("a", "b/c", "new/folder/d"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    for name in ("new", "new/folder"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["a", "b", "b/c", "b/gone"])
def test_no_link_is_followed_or_replaced(fresh, tmp_path, name):
    folder, elsewhere = fresh(), tmp_path / "elsewhere"
    (folder / name).rename(elsewhere)
    (folder / name).symlink_to(elsewhere)
    before = contents(folder)
    with pytest.raises(ConfigError, match=rf"Expected .*{name} to be no link"):
        change(folder)
    assert contents(folder) == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file another's")
def test_a_change_that_another_user_made_up_is_left_alone(decided):
    folder = decided()
    os.chown(folder / ".change", 12345, 12345)
    assert not has_unfinished_change(folder)
    finish_change(folder)
    assert contents(folder) == BEFORE


def test_a_link_is_no_change(fresh, tmp_path):
    folder = fresh()
    (folder / ".change").symlink_to(tmp_path)
    finish_change(folder)
    assert contents(folder) == BEFORE
