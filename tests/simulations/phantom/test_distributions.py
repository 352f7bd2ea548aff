"""The phantom's shares are those of the official tables of CBIS-DDSM, to the digits given."""

import csv
from collections import Counter

import pytest

from shared_model.vocabulary import CLINICAL_COLUMNS, LesionType, Pathology
from simulations.phantom.distributions import (
    BOTH_SPLITS_SHARE,
    DESCRIPTORS,
    GRADES,
    MALIGNANT_SHARE,
    MASS_SHARES,
    NO_CALLBACK_SHARES,
    SERIES_LETTERS,
    SINGLE_VIEW_SHARE,
    SITE_SHARES,
)
from tests.real_data import CBIS_DDSM

COLUMNS = {
    LesionType.MASS: ("mass shape", "mass margins", "breast_density"),
    LesionType.CALCIFICATION: ("calc type", "calc distribution", "breast density"),
}
WORDS = {LesionType.MASS: "mass", LesionType.CALCIFICATION: "calc"}
GROUPS = [(lesion_type, pathology) for lesion_type in LesionType for pathology in Pathology]


@pytest.fixture(scope="module")
def tables():
    """The rows of the official tables by lesion type, each with its split."""
    if not CBIS_DDSM.exists():
        pytest.skip("the CBIS-DDSM tables are not at ../shared/data/CBIS-DDSM beside the repository")
    rows = {lesion_type: [] for lesion_type in LesionType}
    for lesion_type, word in WORDS.items():
        for split in ("train", "test"):
            with (CBIS_DDSM / f"{word}_case_description_{split}_set.csv").open(newline="", encoding="utf-8") as file:
                rows[lesion_type] += [row | {"split": split} for row in csv.DictReader(file)]
    return rows


def unordered(pair):
    """Return a pair of cells whose joined values stand in no order."""
    return tuple(frozenset(cell.split("-")) for cell in pair)


def shares(values):
    counts = Counter(values)
    return {value: count / counts.total() for value, count in counts.items()}


@pytest.mark.parametrize(("lesion_type", "pathology"), GROUPS)
def test_pairs_of_descriptors(tables, lesion_type, pathology):
    first, second, _ = COLUMNS[lesion_type]
    rows = [row for row in tables[lesion_type] if row["pathology"] == pathology]
    written = [(row[first] or "NA", row[second] or "NA") for row in rows]
    real, drawn = shares(map(unordered, written)), Counter()
    for pair, share in DESCRIPTORS[lesion_type][pathology].items():
        drawn[unordered(pair.split(" "))] += share
    # Rounded to three digits.
    assert {pair: real[pair] for pair in drawn} == pytest.approx(dict(drawn), abs=5.001e-4)
    left_out = {pair for pair, share in shares(written).items() if unordered(pair) not in drawn and share >= 0.01}
    assert not left_out


@pytest.mark.parametrize("column", ["density", "subtlety", "assessment"])
@pytest.mark.parametrize(("lesion_type", "pathology"), GROUPS)
def test_grades(tables, lesion_type, pathology, column):
    expected = GRADES[lesion_type][pathology][column]
    name = COLUMNS[lesion_type][2] if column == "density" else column
    first = 0 if column == "assessment" else 1
    values = [int(row[name]) for row in tables[lesion_type] if row["pathology"] == pathology]
    # A density of 0 is a missing one.
    real = shares(value for value in values if value >= first)
    # Rounded to two digits, and then so that they add up to 1.
    assert [real.get(first + place, 0.0) for place in range(len(expected))] == pytest.approx(expected, abs=0.0101)
    assert sum(expected) == pytest.approx(1)


def test_classes_and_types(tables):
    malignant = {
        lesion_type: sum(row["pathology"] == "MALIGNANT" for row in rows) / len(rows)
        for lesion_type, rows in tables.items()
    }
    mass, calcification = malignant[LesionType.MASS], malignant[LesionType.CALCIFICATION]
    # Where both types are equally many.
    assert pytest.approx((mass + calcification) / 2, abs=0.005) == MALIGNANT_SHARE
    assert mass / (mass + calcification) == pytest.approx(MASS_SHARES[1], abs=0.005)
    assert (1 - mass) / (2 - mass - calcification) == pytest.approx(MASS_SHARES[0], abs=0.005)
    for lesion_type, rows in tables.items():
        benign = [row["pathology"] for row in rows if row["pathology"] != "MALIGNANT"]
        share = benign.count("BENIGN_WITHOUT_CALLBACK") / len(benign)
        assert share == pytest.approx(NO_CALLBACK_SHARES[lesion_type], abs=0.005)


def test_views_of_a_lesion_and_patients_in_both_splits(tables):
    rows = [(lesion_type, row) for lesion_type, rows in tables.items() for row in rows]
    lesions = Counter(
        (lesion_type, row["patient_id"], row["left or right breast"], row["abnormality id"])
        for lesion_type, row in rows
    )
    single = sum(count == 1 for count in lesions.values()) / len(lesions)
    assert single == pytest.approx(SINGLE_VIEW_SHARE, abs=0.015)
    train, test = ({row["patient_id"] for _, row in rows if row["split"] == split} for split in ("train", "test"))
    assert len(train & test) == 31
    assert len(train & test) / len(train | test) == pytest.approx(BOTH_SPLITS_SHARE, abs=0.0005)


def test_hospitals_have_the_volumes_of_ddsm(tables):
    with (CBIS_DDSM / "sites.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {(row["institution"], row["ddsm_series_letter"]) for row in rows}
    assert found == {(site, letter) for site, letters in SERIES_LETTERS.items() for letter in letters}
    # The phantom's hospitals are less unequal, but in the same order.
    counts = Counter(row["institution"] for row in rows)
    assert sorted(counts, key=counts.get) == sorted(SITE_SHARES, key=SITE_SHARES.get)


def test_every_descriptor_is_in_the_vocabulary():
    known = {column.name: {*column.values, "NA"} for column in CLINICAL_COLUMNS}
    names = {
        LesionType.MASS: ("mass_shape", "mass_margins"),
        LesionType.CALCIFICATION: ("calc_type", "calc_distribution"),
    }
    for lesion_type, tables in DESCRIPTORS.items():
        for pair in {pair for shares in tables.values() for pair in shares}:
            for name, cell in zip(names[lesion_type], pair.split(" "), strict=True):
                assert set(cell.split("-")) <= known[name]


def test_shares_of_hospitals_add_up():
    assert sum(SITE_SHARES.values()) == pytest.approx(1)
