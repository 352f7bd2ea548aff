"""A hospital's long-running process: settings, checks before it starts, Flower's SuperNode."""
