"""The vocabulary: spellings of the case descriptions, and which columns a policy admits."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from shared_model.vocabulary import (
    CLINICAL_COLUMNS,
    Encoding,
    FeaturePolicy,
    Laterality,
    LesionType,
    Pathology,
    View,
    clinical_columns,
    clinical_width,
)

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "CBIS-DDSM"
BY_NAME = {column.name: column for column in CLINICAL_COLUMNS}


def test_only_malignant_is_positive():
    assert {pathology: pathology.label for pathology in Pathology} == {
        Pathology.MALIGNANT: 1,
        Pathology.BENIGN: 0,
        Pathology.BENIGN_WITHOUT_CALLBACK: 0,
    }


def test_policies_contain_each_other_in_order():
    safe, descriptors, reader = (clinical_columns(policy) for policy in FeaturePolicy)
    assert descriptors[: len(safe)] == safe
    assert reader[: len(descriptors)] == descriptors
    assert reader == CLINICAL_COLUMNS


def test_safe_holds_nothing_that_a_reader_of_the_film_wrote():
    assert {column.name for column in clinical_columns(FeaturePolicy.SAFE)} == {
        "breast_density",
        "laterality",
        "view",
        "abnormality_type",
        "age",
        "family_history",
    }


def test_the_verdict_enters_under_reader_only():
    assert {BY_NAME[name].policy for name in ("assessment", "subtlety")} == {FeaturePolicy.READER}


def test_widths_by_hand():
    safe = 6
    descriptors = safe + 8 + 5 + 14 + 5  # shapes, margins, calcification types, distributions
    assert [clinical_width(policy) for policy in FeaturePolicy] == [safe, descriptors, descriptors + 2]


@pytest.mark.parametrize("column", CLINICAL_COLUMNS, ids=lambda column: column.name)
def test_columns_are_well_formed(column):
    assert len(set(column.values)) == len(column.values) >= 2
    assert not set(column.missing) & set(column.values)
    assert column.width == (1 if column.encoding is Encoding.ORDINAL else len(column.values))


def test_names_are_distinct():
    assert max(Counter(column.name for column in CLINICAL_COLUMNS).values()) == 1


def test_ages_are_years_of_adults():
    assert (BY_NAME["age"].values[0], BY_NAME["age"].values[-1], len(BY_NAME["age"].values)) == ("18", "100", 83)


def cells_of(name):
    for path in sorted(DATA.glob("*_case_description_*_set.csv")):
        with path.open(newline="") as file:
            yield from (row[name] for row in csv.DictReader(file) if row.get(name))


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("mass shape", BY_NAME["mass_shape"].values),
        ("mass margins", BY_NAME["mass_margins"].values),
        ("calc type", BY_NAME["calc_type"].values),
        ("calc distribution", BY_NAME["calc_distribution"].values),
        ("assessment", (*BY_NAME["assessment"].values, *BY_NAME["assessment"].missing)),
        ("subtlety", (*BY_NAME["subtlety"].values, *BY_NAME["subtlety"].missing)),
        ("breast density", (*BY_NAME["breast_density"].values, *BY_NAME["breast_density"].missing)),
        ("breast_density", (*BY_NAME["breast_density"].values, *BY_NAME["breast_density"].missing)),
        ("pathology", tuple(Pathology)),
        ("left or right breast", tuple(Laterality)),
        ("image view", tuple(View)),
        ("abnormality type", tuple(LesionType)),
    ],
)
def test_the_vocabulary_spells_every_value_of_the_official_tables(header, values):
    if not DATA.is_dir():
        pytest.skip("CBIS-DDSM is not at ../shared/data/CBIS-DDSM beside the repository")
    found = set()
    for cell in cells_of(header):
        found |= set(cell.strip().split("-")) - {"NA", "N/A"}
    assert found
    assert found <= set(map(str, values)), found - set(map(str, values))
