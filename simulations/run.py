"""``python -m simulations.run [overrides]``: the same as ``fedmammo simulate [overrides]``."""

import sys
from collections.abc import Sequence

from simulations.commands import app


def main(overrides: Sequence[str]) -> int:
    """Train over simulated hospitals; return 0 only when the results are written."""
    return app.main(["simulate", *overrides])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
