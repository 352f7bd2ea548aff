"""One lesion view's clinical columns -> numbers, without a table: pandas takes as long to load as a lesion to read."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from shared_model.vocabulary import ClinicalColumn, Encoding, FeaturePolicy, clinical_columns


def encode_record(cells: Mapping[str, str | None], policy: FeaturePolicy) -> npt.NDArray[np.float32]:
    """Encode one lesion view, whose cells were parsed already, as ``clinical_encoding.encode_clinical`` does its row.

    Args:
        cells: by column its canonical value; None, or no entry, where nothing was recorded.
        policy: which columns enter.

    Returns:
        ``(clinical_width(policy),)``, float32.
    """
    return np.concatenate([encode_cell(column, cells.get(column.name)) for column in clinical_columns(policy)])


def encode_cell(column: ClinicalColumn, cell: str | None) -> npt.NDArray[np.float32]:
    """Return the numbers of a canonical value, ``(column.width,)``; of None those of what was not recorded."""
    if column.encoding is Encoding.ORDINAL:
        # Equal steps from -1 to 1 in the vocabulary's order; 0, the middle, where nothing was recorded.
        steps = np.linspace(-1, 1, len(column.values), dtype=np.float32)
        return steps[[column.values.index(cell)]] if cell is not None else np.zeros(1, dtype=np.float32)
    parts = set() if cell is None else set(cell.split("-"))
    return np.array([value in parts for value in column.values], dtype=np.float32)
