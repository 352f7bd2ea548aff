"""Rows as a reader of tables hands them over."""

import pytest

from client.data.tables.lesion_table import LesionRow


@pytest.fixture(scope="session")
def row():
    """Return a function that makes a usable row with some fields changed."""

    def make(number=1, **changes):
        cells = {"pathology": "MALIGNANT", "breast_density": "3", "laterality": "LEFT", "view": "CC"}
        cells |= changes.pop("clinical", {})
        defaults = {
            "source": "table.csv",
            "row": number,
            "patient_id": f"P_{number}",
            "lesion_id": f"L_{number}",
            "split": "train",
            "outcome_column": "pathology",
            "clinical": cells,
        }
        return LesionRow(**(defaults | changes))

    return make
