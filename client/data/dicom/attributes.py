"""Attributes of a DICOM data set, read and checked; an error names keyword, tag, value and what was expected."""

import math
import reprlib

from pydicom import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from shared_model.errors import DicomError


def expect(is_met: bool, dataset: Dataset, keyword: str, expectation: str) -> None:
    """Raise ``DicomError`` with the attribute's value and ``expectation``, unless ``is_met``."""
    if not is_met:
        raise DicomError(f"Expected {keyword} {Tag(keyword)}={shown(dataset, keyword)} {expectation}.")


def shown(dataset: Dataset, keyword: str) -> str:
    """Return the attribute's value in short, as a message shows it."""
    if keyword not in dataset:
        return "missing"
    try:
        return reprlib.repr(dataset[keyword].value)
    except (BytesLengthException, TypeError, ValueError):
        # Not even of the kind that its VR promises: as it stands in the file.
        return reprlib.repr(dataset.get_item(keyword).value)


def read_integer(dataset: Dataset, keyword: str, smallest: int, largest: int) -> int:
    """Return the attribute as a whole number in [smallest, largest].

    Raises:
        DicomError: it is absent, no whole number, or out of bounds.
    """
    try:
        value = dataset.get(keyword)
    except (BytesLengthException, TypeError, ValueError):
        value = None
    is_met = isinstance(value, int) and smallest <= value <= largest
    expect(is_met, dataset, keyword, f"to be an integer in [{smallest}, {largest}]")
    return int(value)


def read_number(dataset: Dataset, keyword: str) -> float | None:
    """Return the first value, or ``None`` where the attribute is absent or empty.

    Raises:
        DicomError: it is no number, or not finite.
    """
    try:
        value = dataset.get(keyword)
        if isinstance(value, MultiValue):
            value = value[0] if value else None
        if value is None or value == "":
            return None
        number = float(value)
    except (BytesLengthException, TypeError, ValueError):
        number = math.nan
    expect(math.isfinite(number), dataset, keyword, "to be a finite number")
    return number


def read_number_pair(dataset: Dataset, first: str, second: str) -> tuple[float, float] | None:
    """Return two attributes that stand together, or ``None`` where both are absent.

    Raises:
        DicomError: one of them is absent, or one is not finite.
    """
    one, other = read_number(dataset, first), read_number(dataset, second)
    if one is None and other is None:
        return None
    if one is None or other is None:
        raise DicomError(f"Expected {first} {Tag(first)} and {second} {Tag(second)} together, got one of them.")
    return one, other
