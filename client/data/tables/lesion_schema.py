"""What the usable rows of a lesion table must look like, whatever reader they come from."""

from typing import Any

import pandas as pd
import pandera.pandas as pa

from client.data.tables.cells import BOX_COLUMNS, parse_clinical_cell
from shared_model.errors import TableError
from shared_model.vocabulary import CLINICAL_COLUMNS, ClinicalColumn, Pathology, Split

TEXT = pd.StringDtype()


def _is_canonical(column: ClinicalColumn) -> pa.Check:
    def is_so(cell: str) -> bool:
        """Return whether ``cell`` is spelled as ``parse_clinical_cell`` spells it."""
        try:
            return parse_clinical_cell(column, cell) == cell
        except TableError:
            return False

    def check(cells: "pd.Series[str]") -> bool:
        # Each value once: a million rows hold few different ones.
        return all(is_so(str(cell)) for cell in cells.dropna().unique())

    return pa.Check(check, name=f"values of {column.name}")


def _are_path_tuples(cells: "pd.Series[Any]") -> bool:
    return all(type(cell) is tuple and all(isinstance(path, str) and path for path in cell) for cell in cells)


def _one_split_per_patient(frame: pd.DataFrame) -> bool:
    pairs = frame[["patient_id", "split"]].drop_duplicates()
    return not pairs["patient_id"].duplicated().any()


def _label_follows_pathology(frame: pd.DataFrame) -> bool:
    known = frame[frame["pathology"].notna()]
    return bool((known["pathology"].eq(Pathology.MALIGNANT).astype("int64") == known["label"]).all())


def _box_is_whole(frame: pd.DataFrame) -> bool:
    return bool(frame[list(BOX_COLUMNS)].notna().sum(axis=1).isin([0, len(BOX_COLUMNS)]).all())


LESION_SCHEMA = pa.DataFrameSchema(
    {
        "source": pa.Column(TEXT),
        "row": pa.Column("int64", pa.Check.ge(1)),
        "patient_id": pa.Column(TEXT, pa.Check.str_length(min_value=1)),
        "lesion_id": pa.Column(TEXT, pa.Check.str_length(min_value=1)),
        "finding_id": pa.Column(TEXT, pa.Check.str_length(min_value=1)),
        "split": pa.Column(TEXT, pa.Check.isin(list(Split))),
        "label": pa.Column("int64", pa.Check.isin([0, 1])),
        "pathology": pa.Column(TEXT, pa.Check.isin(list(Pathology)), nullable=True),
        **{
            column.name: pa.Column(TEXT, _is_canonical(column), nullable=True, required=not column.optional)
            for column in CLINICAL_COLUMNS
        },
        "film_path": pa.Column(TEXT, nullable=True),
        "lesion_paths": pa.Column(object, pa.Check(_are_path_tuples)),
        **{
            name: pa.Column("Int64", pa.Check.ge(least), nullable=True)
            for name, least in zip(BOX_COLUMNS, (0, 0, 1, 1), strict=True)
        },
    },
    checks=[
        pa.Check(_one_split_per_patient, name="one split per patient"),
        pa.Check(_label_follows_pathology, name="label follows pathology"),
        pa.Check(_box_is_whole, name="box whole or absent"),
    ],
    unique=["patient_id", "lesion_id"],
    strict=True,
)
