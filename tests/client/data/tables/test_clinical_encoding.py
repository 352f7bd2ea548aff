"""Clinical columns as numbers, against a naive loop and by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.tables.clinical_encoding import encode_clinical
from client.data.tables.lesion_table import build_lesion_table
from shared_model.errors import TableError
from shared_model.vocabulary import CLINICAL_COLUMNS, Encoding, FeaturePolicy, clinical_columns, clinical_width


def naive_encoding(cells, policy):
    numbers = []
    for column in clinical_columns(policy):
        cell = cells.get(column.name)
        if column.encoding is Encoding.ORDINAL:
            last = len(column.values) - 1
            numbers.append(0.0 if cell is None else -1 + 2 * column.values.index(cell) / last)
        else:
            for value in column.values:
                numbers.append(1.0 if cell is not None and value in cell.split("-") else 0.0)  # noqa: PERF401
    return numbers


@st.composite
def canonical_cells(draw):
    cells = {}
    for column in CLINICAL_COLUMNS:
        most = 1 if column.encoding is Encoding.ORDINAL else 3
        chosen = draw(st.sets(st.sampled_from(column.values), max_size=most))
        cells[column.name] = "-".join(v for v in column.values if v in chosen) or None
    return cells


@given(rows=st.lists(canonical_cells(), min_size=1, max_size=4), policy=st.sampled_from(FeaturePolicy))
def test_encoding_equals_a_naive_loop(rows, policy):
    encoded = encode_clinical(pd.DataFrame(rows, dtype=pd.StringDtype()), policy)
    assert encoded.dtype == np.float32
    assert encoded.shape == (len(rows), clinical_width(policy))
    assert np.abs(encoded).max() <= 1
    np.testing.assert_allclose(encoded, [naive_encoding(cells, policy) for cells in rows], atol=1e-6)


def test_encoding_of_one_row_by_hand(row):
    table = build_lesion_table([row(1, clinical={"age": "59", "abnormality_type": "calcification"})])
    encoded = encode_clinical(table.frame, FeaturePolicy.SAFE)
    # Density 3 of 1 to 4, left, CC, calcification, 59 is the middle of 18 to 100, no family history recorded.
    np.testing.assert_allclose(encoded, [[1 / 3, -1, -1, 1, 0, 0]], atol=1e-6)


def test_encoding_without_rows_or_optional_columns(row):
    table = build_lesion_table([])
    assert encode_clinical(table.frame, FeaturePolicy.READER).shape == (0, clinical_width(FeaturePolicy.READER))
    frame = build_lesion_table([row(1)]).frame.drop(columns=["age", "family_history"])
    assert encode_clinical(frame, FeaturePolicy.SAFE).shape == (1, clinical_width(FeaturePolicy.SAFE))


def test_encoding_refuses_absent_columns_and_unknown_values(row):
    frame = build_lesion_table([row(1)]).frame
    with pytest.raises(TableError, match="have column view"):
        encode_clinical(frame.drop(columns="view"), FeaturePolicy.SAFE)
    with pytest.raises(TableError, match="view='XCCL'"):
        encode_clinical(frame.assign(view="XCCL"), FeaturePolicy.SAFE)
