"""Whether the machine is fit for a site: where its ledger lies, and who else is working with its folder."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from client.deployment.checks import Doubt
from client.deployment.site_file import SiteFile
from shared_model.system.process_lock import holder_of, is_this_process

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ncpfs"})
"""File systems on which locks and syncing of SQLite may not hold (https://sqlite.org/lockingv3.html, section 6)."""
_NETWORK_FUSE = ("fuse.sshfs", "fuse.s3fs", "fuse.davfs", "fuse.rclone", "fuse.glusterfs", "fuse.ceph", "fuse.smb")
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A mounted file system."""

    point: Path
    kind: str
    """As the kernel names it, for instance ``ext4``."""

    @property
    def is_network(self) -> bool:
        """Whether its files lie on another machine."""
        return self.kind in _NETWORK or self.kind.startswith(_NETWORK_FUSE)


def check_file_system(site: SiteFile) -> str:
    """Check that ledger and state lie on disks of this machine.

    Raises:
        Doubt: one lies on a network file system, where a lock or a sync may not hold.
    """
    try:
        mounts = mounts_in(_MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return "unknown: this system does not list its mounts"
    kinds = []
    for name, path in (("ledger", site.ledger), ("state_dir", site.state_dir)):
        mount = mount_of(path, mounts)
        if mount is None:
            continue
        if mount.is_network:
            raise Doubt(f"{name} lies on {mount.kind} (mounted at {mount.point}), where locks and syncing may not hold")
        kinds.append(mount.kind)
    return ", ".join(dict.fromkeys(kinds)) or "unknown"


def check_other_process(site: SiteFile) -> str:
    """Check that no other process works with the site's folder.

    Raises:
        Doubt: one does; the message names it.
        OSError: the lock cannot be read.
    """
    holder = holder_of(site.lock)
    if holder is None:
        return "no other"
    if is_this_process(holder):
        return "this one"
    raise Doubt(f"{holder} works in {site.state_dir}")


def mounts_in(lines: Iterable[str]) -> list[Mount]:
    """Return the mounts that the ``lines`` of ``/proc/self/mountinfo`` describe (proc_pid_mountinfo(5)), in order."""
    mounts = []
    for line in lines:
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if separator and len(fields) > 4 and kind:
            point = _OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[4])
            mounts.append(Mount(point=Path(point), kind=kind[0]))
    return mounts


def mount_of(path: Path, mounts: Iterable[Mount]) -> Mount | None:
    """Return the mount on which ``path`` lies or would lie: the deepest, and of several in one place the last."""
    resolved, found = path.resolve(), None
    for mount in mounts:
        if resolved.is_relative_to(mount.point) and (found is None or len(mount.point.parts) >= len(found.point.parts)):
            found = mount
    return found
