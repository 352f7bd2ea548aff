"""Where the command ``fedmammo`` begins: from here on Ctrl-C is answered in one line, also while importing."""

import sys

_INTERRUPTED = 130


def main() -> int:
    """Import the commands, run the one that is asked for, and return its exit status."""
    try:
        from simulations.commands.app import main as run

        status = run()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        status = _INTERRUPTED
    # Where the interrupt came inside an exec, as dataclasses use it, Python remembers it and would end by the signal;
    # the next exec forgets it.
    exec("")  # noqa: S102
    return status
