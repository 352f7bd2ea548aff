"""Clinical columns -> numbers: ordinal columns to [-1, 1], columns of several values to a 0 or 1 for each value."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from client.data.tables.cells import parse_clinical_cell
from client.data.tables.distinct_cells import as_objects
from client.data.tables.record_encoding import encode_cell
from shared_model.errors import TableError
from shared_model.vocabulary import ClinicalColumn, FeaturePolicy, clinical_columns


def encode_clinical(frame: pd.DataFrame, policy: FeaturePolicy) -> npt.NDArray[np.float32]:
    """Encode the columns that ``policy`` admits, as ``ClinicalColumn`` says.

    All constants come from the vocabulary and none from the data, so the encoding costs no privacy and is the same at
    every site.

    Args:
        frame: as ``LesionTable.frame``; an optional column may be absent, which encodes it as missing.
        policy: which columns enter, in the order of ``clinical_columns(policy)``.

    Returns:
        ``(N, clinical_width(policy))``, float32; ordinal entries in [-1, 1], multi-hot entries 0 or 1.

    Raises:
        TableError: a column that is not optional is absent, or a value is outside the vocabulary.
    """
    blocks = []
    for column in clinical_columns(policy):
        if column.name not in frame and not column.optional:
            raise TableError(f"Expected the lesion table to have column {column.name}.")
        cells = frame[column.name].to_list() if column.name in frame else [None] * len(frame)
        blocks.append(_encode_column(column, cells))
    return np.concatenate(blocks, axis=1)


def _encode_column(column: ClinicalColumn, cells: Sequence[object]) -> npt.NDArray[np.float32]:
    numbers, distinct = pd.factorize(as_objects(cells), use_na_sentinel=False)
    canonical = [None if pd.isna(cell) else parse_clinical_cell(column, str(cell)) for cell in distinct]
    codes = np.array([encode_cell(column, cell) for cell in canonical], dtype=np.float32).reshape(-1, column.width)
    return codes[numbers]
