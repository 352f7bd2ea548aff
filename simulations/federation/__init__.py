"""A federation on this machine: data dealt to sites, an in-process grid, or real processes."""
