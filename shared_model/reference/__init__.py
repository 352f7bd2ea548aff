"""Figures of public data that ship with the package, each file with its source and licence."""
