"""A network with nothing but this machine in it, for a PACS that listens on every interface whatever it is told.

Debian's Orthanc ignores a bind address. In a network namespace of its own, with loopback alone, nobody else reaches it;
in a process namespace of its own, nothing that was started in it outlives the command, even if that is killed.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence

_LOOPBACK_UP = 'ip link set lo up && exec "$@"'


def is_alone() -> bool:
    """Return whether this process sees no interface but loopback."""
    return all(name == "lo" for _, name in socket.if_nameindex())


def missing() -> str:
    """Return what this machine lacks for such a network, in one line; empty if nothing."""
    lacks = [program for program in ("setpriv", "unshare", "ip") if shutil.which(program) is None]
    if lacks:
        return f"{', '.join(lacks)} not installed: apt-get install util-linux iproute2"
    tried = subprocess.run([*_namespace(), "true"], capture_output=True, check=False)  # noqa: S603, our own words
    return "" if tried.returncode == 0 else "no network namespace may be made here: unshare --net"


def alone(command: Sequence[str]) -> list[str]:
    """Return the command line that runs ``command`` alone; whatever ends its parent ends it, and all below it."""
    return [*_namespace(), "sh", "-c", _LOOPBACK_UP, "sh", *command]


def run_alone(command: Sequence[str]) -> int:
    """Run ``command`` in such a network to its end, and return its exit status; nothing of it outlives this process."""
    return subprocess.run(alone(command), check=False).returncode  # noqa: S603, our own command


def _namespace() -> list[str]:
    # unshare holds back what asks it to end, and dies with its parent only if that cannot be held back.
    words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return words if os.geteuid() == 0 else [*words, "--map-root-user"]
