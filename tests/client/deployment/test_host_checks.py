"""A ledger on a network file system, and a second process, are named before a start."""

from pathlib import Path

import pytest

from client.deployment import host_checks
from client.deployment.checks import Doubt
from client.deployment.host_checks import check_file_system, check_other_process, mount_of, mounts_in
from shared_model.system.process_lock import ProcessLock

# As proc_pid_mountinfo(5) has it: with and without optional fields, a space in a path, and one place mounted twice.
MOUNTINFO = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:45 / /srv/pacs\040share rw,relatime shared:20 master:3 - nfs4 pacs:/export rw,vers=4.2
41 22 0:46 / /mnt/office rw - cifs //office/share rw
42 22 0:47 / /home/anna/remote rw - fuse.sshfs anna@host:/ rw
43 22 0:48 / /var/lib rw - nfs a:/b rw
44 22 0:49 / /var/lib rw - xfs /dev/sdb1 rw
45 22 0:50 / /srv/fast rw - fuse.mergerfs fast rw
not a line of it
"""


@pytest.mark.parametrize(
    ("path", "kind", "is_network"),
    [
        ("/srv/pacs share/site/ledger.sqlite", "nfs4", True),
        ("/mnt/office/ledger.sqlite", "cifs", True),
        ("/mnt/officers/ledger.sqlite", "ext4", False),
        ("/home/anna/remote/x", "fuse.sshfs", True),
        ("/home/anna/x", "ext4", False),
        ("/var/lib/fedmammo", "xfs", False),
        ("/srv/fast/x", "fuse.mergerfs", False),
    ],
)
def test_the_deepest_mount_counts_and_of_two_in_one_place_the_last(path, kind, is_network):
    mount = mount_of(Path(path), mounts_in(MOUNTINFO.splitlines()))
    assert (mount.kind, mount.is_network) == (kind, is_network)


@pytest.mark.parametrize("setting", ["ledger", "state_dir"])
def test_a_network_file_system_is_a_doubt_that_names_it(begun, monkeypatch, setting, tmp_path):
    share = tmp_path / "share"
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 22 0:45 / {share} rw - nfs4 pacs:/export rw\n", encoding="utf-8"
    )
    monkeypatch.setattr(host_checks, "_MOUNTS", mounts)
    assert check_file_system(begun.site) == "ext4"
    begun.change(**{setting: str(share / "x")})
    with pytest.raises(Doubt, match=rf"{setting} lies on nfs4 \(mounted at {share}\)"):
        check_file_system(begun.site)


def test_a_link_to_a_share_is_followed(begun, monkeypatch, tmp_path):
    share = tmp_path / "share"
    share.mkdir()
    (begun.folder / "fast").symlink_to(share)
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"1 0 8:1 / / rw - ext4 a rw\n2 1 0:45 / {share} rw - cifs //b/c rw\n", encoding="utf-8")
    monkeypatch.setattr(host_checks, "_MOUNTS", mounts)
    begun.change(ledger="fast/ledger.sqlite")
    with pytest.raises(Doubt, match="ledger lies on cifs"):
        check_file_system(begun.site)


def test_this_machine_is_understood(begun):
    assert check_file_system(begun.site) != "unknown"


def test_a_system_that_lists_no_mounts(begun, monkeypatch, tmp_path):
    monkeypatch.setattr(host_checks, "_MOUNTS", tmp_path / "none")
    assert "does not list its mounts" in check_file_system(begun.site)


def test_another_process_of_the_site_is_named(begun, monkeypatch):
    assert check_other_process(begun.site) == "no other"
    with ProcessLock.take(begun.site.lock):
        assert check_other_process(begun.site) == "this one"
        monkeypatch.setattr("shared_model.system.process_lock.os.getpid", lambda: -1)
        with pytest.raises(Doubt, match=r"process \d+ on .* since .* works in .*state"):
            check_other_process(begun.site)
    assert check_other_process(begun.site) == "no other"


def test_a_folder_that_was_never_used(kit):
    assert check_other_process(kit.site) == "no other"
    assert not kit.site.state_dir.exists()
