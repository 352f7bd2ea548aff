"""How much memory a process has, or has had, as Linux counts it."""

from pathlib import Path

NOW, PEAK = "VmRSS", "VmHWM"


def memory_bytes(name: str, process: int | None = None) -> int:
    """Return resident bytes: ``NOW``, or ``PEAK``, which unlike ``ru_maxrss`` does not begin at what the parent had.

    Args:
        name: ``NOW`` or ``PEAK``.
        process: the number of another process than this one.

    Raises:
        OSError: the system does not say (``/proc``), or the process has ended.
    """
    status = Path("/proc") / ("self" if process is None else str(process)) / "status"
    for line in status.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return 1024 * int(value.removesuffix("kB"))
    raise OSError(f"Expected {status} to have {name}.")
