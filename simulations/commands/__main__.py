"""``python -m simulations.commands``: the command ``fedmammo`` where it is not installed."""

import sys

from simulations.commands.fedmammo import main

if __name__ == "__main__":
    sys.exit(main())
