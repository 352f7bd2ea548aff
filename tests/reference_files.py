"""Files of numbers that differ from the shipped one in what they say they are of."""

import dataclasses
from pathlib import Path

from shared_model.reference.reference_file import SHIPPED_FILE, read_reference, to_bytes


def of_sites(folder: Path, *sites: str, **facts: object) -> Path:
    """Write the shipped numbers as those of patients of ``sites``, with other facts, and return the path."""
    reference, path = read_reference(SHIPPED_FILE), folder / "numbers.safetensors"
    path.write_bytes(to_bytes(dataclasses.replace(reference.facts, sites=sites, **facts), reference.arrays))
    return path
