"""``fedmammo`` as people at a hospital type it, and what it says."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from shared_model.errors import ConfigError
from simulations.federation.rehearsal import FEDMAMMO, environment


@dataclass(frozen=True, kw_only=True)
class Done:
    """A command that has ended."""

    status: int
    output: str
    """Standard output and error, as a person sees them."""

    @property
    def last_line(self) -> str:
        """What stands at the end of what it said; empty if it said nothing."""
        return next(iter(self.output.strip().splitlines()[::-1]), "")

    def line(self, word: str) -> str:
        """Return the first line with ``word``; the last of all where there is none."""
        found = (line.strip() for line in self.output.splitlines() if word in line)
        return next(found, self.last_line)


def fedmammo(*words: str | Path) -> Done:
    """Run a command to its end."""
    done = subprocess.run(  # noqa: S603, our own command
        [*FEDMAMMO, *map(str, words)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Done(status=done.returncode, output=done.stdout)


def required(*words: str | Path) -> str:
    """Run a command without which there is no day, and return what it said.

    Raises:
        ConfigError: it failed.
    """
    done = fedmammo(*words)
    if done.status:
        raise ConfigError(f"Expected fedmammo {words[0]} {words[1]} to end well, got {done.status}: {done.last_line}")
    return done.output
