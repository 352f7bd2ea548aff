"""How much memory this process has, or has had, as Linux counts it."""

from pathlib import Path

NOW, PEAK = "VmRSS", "VmHWM"


def memory_bytes(name: str) -> int:
    """Return resident bytes: ``NOW``, or ``PEAK``, which unlike ``ru_maxrss`` does not begin at what the parent had.

    Raises:
        OSError: the system does not say (``/proc``).
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return 1024 * int(value.removesuffix("kB"))
    raise OSError(f"Expected /proc/self/status to have {name}.")
