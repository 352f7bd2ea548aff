"""Stored values -> grey values: Modality LUT, VOI LUT or window, and where the padding lies.

"PS3.3" is part 3 of the DICOM standard. LUT stands for look-up table, VOI for values of interest.
"""

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.tag import Tag

from client.data.dicom.attributes import expect, read_integer, read_number_pair, shown
from client.data.dicom.decoding import IntArray, PixelFormat
from shared_model.errors import DicomError

FloatArray = NDArray[np.float64]
_MAPPINGS = (
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTSequence"
)  # fmt: skip


def grey_table(dataset: Dataset, pixel_format: PixelFormat) -> NDArray[np.float32]:
    """Return the grey value of every stored value from smallest to largest, ``(2 ** bits_stored,)``, float32.

    Brighter is denser tissue: MONOCHROME1, where the smallest value is shown white, is inverted.

    Raises:
        DicomError: a look-up table or window is malformed, or maps all values to one.
    """
    values = np.arange(pixel_format.smallest, pixel_format.largest + 1, dtype=np.float64)
    try:
        values = _apply_voi(_apply_modality(values, dataset), dataset)
        if pixel_format.is_inverted:
            values = values.min() + values.max() - values
        table = values.astype(np.float32)
    except FloatingPointError:
        table = np.full(1, np.inf, dtype=np.float32)
    if not np.isfinite(table).all() or table.min() == table.max():
        named = ", ".join(f"{name} {Tag(name)}={shown(dataset, name)}" for name in _MAPPINGS if name in dataset)
        raise DicomError(f"Expected {named} to map stored values to finite values, not all equal.")
    return table


def _apply_modality(values: FloatArray, dataset: Dataset) -> FloatArray:
    """PS3.3 C.11.1: a look-up table, or slope and intercept."""
    if dataset.get("ModalityLUTSequence"):
        return _look_up(values, dataset, "ModalityLUTSequence")
    rescale = read_number_pair(dataset, "RescaleSlope", "RescaleIntercept")
    if rescale is None:
        return values
    slope, intercept = rescale
    return values * slope + intercept


def _apply_voi(values: FloatArray, dataset: Dataset) -> FloatArray:
    """PS3.3 C.11.2: a look-up table, or a window."""
    if dataset.get("VOILUTSequence"):
        return _look_up(values, dataset, "VOILUTSequence")
    window = read_number_pair(dataset, "WindowCenter", "WindowWidth")
    if window is None:
        return values
    center, width = window
    function = dataset.get("VOILUTFunction") or "LINEAR"
    expect(function in ("LINEAR", "LINEAR_EXACT", "SIGMOID"), dataset, "VOILUTFunction", "to be a defined term")
    if function == "LINEAR":
        expect(width >= 1, dataset, "WindowWidth", ">= 1")
        return _linear_window(values, center - 0.5, width - 1)  # C.11.2.1.2.1
    expect(width > 0, dataset, "WindowWidth", "> 0")
    if function == "LINEAR_EXACT":
        return _linear_window(values, center, width)  # C.11.2.1.3.2
    # C.11.2.1.3.1, 1 / (1 + exp(-4 (x - c) / w)), in a form that cannot overflow.
    return (1 + np.tanh(2 * (values - center) / width)) / 2


def _linear_window(values: FloatArray, center: float, width: float) -> FloatArray:
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _look_up(values: FloatArray, dataset: Dataset, keyword: str) -> FloatArray:
    """Map through LUT Descriptor and LUT Data (PS3.3 C.11.1.1.1); beyond the table its first or last entry counts."""
    item = dataset[keyword].value[0]
    for part in ("LUTDescriptor", "LUTData"):
        expect(part in item, item, part, f"to be in {keyword}")
    expect(len(item.LUTDescriptor) == 3, item, "LUTDescriptor", "to have 3 values")
    # The descriptor's VR is US or SS: a count, or a bit depth, may come out negative, a first value too large.
    num_entries = item.LUTDescriptor[0] % 65536 or 65536
    first = item.LUTDescriptor[1]
    if first >= 32768 and values.min() < 0:
        first -= 65536
    data = item.LUTData
    if isinstance(data, bytes):
        is_byte = len(data) < 2 * num_entries
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        entries = np.frombuffer(data, dtype=np.uint8 if is_byte else f"{order}u2")
    else:
        entries = np.atleast_1d(np.asarray(data, dtype=np.uint16))
    expect(len(entries) >= num_entries, item, "LUTData", f"to have {num_entries} entries")
    index = np.clip(np.rint(values) - first, 0, num_entries - 1)
    table: FloatArray = entries[index.astype(np.int64)].astype(np.float64)
    return table


def padding_mask(dataset: Dataset, stored: IntArray, pixel_format: PixelFormat) -> NDArray[np.bool_]:
    """Return ``(Rows, Columns)``, bool: where stored values mean "no image".

    PS3.3 C.7.5.1.1.2: padding value and limit belong to the range. Some devices name a value that the stored bits
    cannot hold, 4096 of 12 bits; no pixel has it, and none is padding.

    Raises:
        DicomError: value or limit is no integer of 16 bits.
    """
    if dataset.get("PixelPaddingValue") is None:
        return np.zeros(stored.shape, dtype=bool)
    value = _padding_value(dataset, "PixelPaddingValue", pixel_format)
    limit = value
    if dataset.get("PixelPaddingRangeLimit") is not None:
        limit = _padding_value(dataset, "PixelPaddingRangeLimit", pixel_format)
    return (stored >= min(value, limit)) & (stored <= max(value, limit))


def _padding_value(dataset: Dataset, keyword: str, pixel_format: PixelFormat) -> int:
    value = read_integer(dataset, keyword, -32768, 65535)
    # Either may be written with the VR of the other, US or SS.
    if pixel_format.is_signed and value >= 32768:
        return value - 65536
    return value + 65536 if not pixel_format.is_signed and value < 0 else value
