"""The coordinator's processes and the kits of a federation."""
