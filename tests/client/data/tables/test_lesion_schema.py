"""What a lesion table must fulfil, against the same rules written for pandera."""

import pandas as pd
import pandera.pandas as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.data.tables.cells import BOX_COLUMNS
from client.data.tables.lesion_schema import LESION_COLUMNS, TEXT, require_lesion_frame
from client.data.tables.lesion_table import build_lesion_table
from shared_model.errors import TableError
from shared_model.vocabulary import CLINICAL_COLUMNS

BOX = ("1", "2", "3", "4")
NAME = pa.Column(TEXT, pa.Check.str_length(min_value=1))
TEXT_VALUES = st.sampled_from(["P_1", "P_2", "", "train", "test", "MALIGNANT", "BENIGN", "OVAL", "oval", "LEFT", "2"])
CELLS = {
    "string": st.none() | TEXT_VALUES,
    "int64": st.integers(-1, 2),
    "Int64": st.none() | st.integers(-1, 2),
    "object": st.sampled_from([(), ("a",), ["a"], ("",), (1,), "a", None]),
}
"""By type of a column: what a cell may become."""


def densities_are_known(cells):
    return cells.dropna().isin(["1", "2", "3", "4"]).all()


def follows(frame):
    known = frame[frame["pathology"].notna()]
    return ((known["pathology"] == "MALIGNANT").astype("int64") == known["label"]).all()


REFERENCE = pa.DataFrameSchema(
    {
        "source": pa.Column(TEXT),
        "row": pa.Column("int64", pa.Check.ge(1)),
        **dict.fromkeys(("patient_id", "lesion_id", "finding_id"), NAME),
        "split": pa.Column(TEXT, pa.Check.isin(["train", "test"])),
        "label": pa.Column("int64", pa.Check.isin([0, 1])),
        "pathology": pa.Column(TEXT, pa.Check.isin(["MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK"]), nullable=True),
        **{
            column.name: pa.Column(
                TEXT,
                pa.Check(densities_are_known) if column.name == "breast_density" else None,
                nullable=True,
                required=not column.optional,
            )
            for column in CLINICAL_COLUMNS
        },
        "film_path": pa.Column(TEXT, nullable=True),
        "lesion_paths": pa.Column(
            object,
            pa.Check(
                lambda cell: type(cell) is tuple and all(type(path) is str and path for path in cell), element_wise=True
            ),
        ),
        **{
            name: pa.Column("Int64", pa.Check.ge(least), nullable=True)
            for name, least in zip(BOX_COLUMNS, (0, 0, 1, 1), strict=True)
        },
    },
    checks=[
        pa.Check(lambda frame: frame.groupby("patient_id")["split"].nunique().le(1).all()),
        pa.Check(follows),
        pa.Check(lambda frame: frame[list(BOX_COLUMNS)].isna().sum(axis=1).isin([0, 4]).all()),
    ],
    unique=["patient_id", "lesion_id"],
    strict=True,
)
CHANGED = [name for name in REFERENCE.columns if name not in {c.name for c in CLINICAL_COLUMNS} - {"breast_density"}]
"""Columns whose cells are changed: of the clinical ones the reference has the rule of one."""


def is_valid(frame, *, by_reference):
    try:
        if by_reference:
            REFERENCE.validate(frame)
        else:
            require_lesion_frame(frame)
    except (pa.errors.SchemaError, pa.errors.SchemaErrors, TableError):
        return False
    return True


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_a_changed_table_is_valid_if_pandera_says_so(row, data):
    frame = build_lesion_table([row(1, box=BOX), row(2), row(3, split="test")]).frame.copy()
    for name in data.draw(st.lists(st.sampled_from(CHANGED), min_size=1, max_size=2, unique=True)):
        cells = list(frame[name])
        cells[data.draw(st.integers(0, 2))] = data.draw(CELLS[str(frame[name].dtype)])
        frame[name] = pd.Series(cells, dtype=frame[name].dtype)
    assert is_valid(frame, by_reference=False) == is_valid(frame, by_reference=True)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        (lambda frame: frame.drop(columns="view"), "with the columns source, row.* got source"),
        (lambda frame: frame.assign(note="x"), "got .*, note"),
        (lambda frame: frame.astype({"label": "int32"}), "label of type int64, got int32"),
        (lambda frame: frame.astype({"split": object}), "split of type string, got object"),
        (lambda frame: pd.concat([frame, frame["row"]], axis=1), "got .*, row"),
        (lambda frame: frame.assign(patient_id=pd.Series(["P", None], dtype=TEXT)), "patient_id in every row, 1 have"),
    ],
)
def test_columns_are_there_once_whole_and_of_their_type(row, changed, match):
    frame = changed(build_lesion_table([row(1), row(2)]).frame)
    with pytest.raises(TableError, match=match):
        require_lesion_frame(frame)


def test_a_table_without_rows_is_valid():
    empty = build_lesion_table([]).frame
    require_lesion_frame(empty)
    assert list(empty.columns) == list(LESION_COLUMNS) == list(REFERENCE.columns)
