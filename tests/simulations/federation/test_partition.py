"""Dealing patients to sites: everyone once, nobody left out, and as skewed as asked for."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared_model.config.choices import Partition
from shared_model.errors import ConfigError
from simulations.federation.partition import assign_sites

DEALT = [Partition.IID, Partition.LABEL_SKEW, Partition.DENSITY_SKEW]
SITES = ("A", "B", "C")
PATIENTS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(["1", "2", "3", "4", None]), st.integers(1, 3)),
    min_size=1,
    max_size=30,
)


def frame_of(patients):
    """One row per lesion view; of a malignant patient only the first row is malignant."""
    rows = [
        (f"P_{i:05d}", label if view == 0 else 0, density)
        for i, (label, density, num_views) in enumerate(patients)
        for view in range(num_views)
    ]
    frame = pd.DataFrame(rows, columns=["patient_id", "label", "breast_density"])
    return frame.astype({"patient_id": "string", "breast_density": "string"})


def assign(frame, partition, *, sites=SITES, concentration=0.5, seed=0):
    generator = np.random.default_rng(seed)
    return assign_sites(frame, sites, partition=partition, concentration=concentration, generator=generator)


def sizes_of(owner, sites=SITES):
    return [list(owner.values()).count(site) for site in sites]


@pytest.fixture(scope="module")
def many():
    return frame_of([(i % 2, str(1 + i % 4), 1 + i % 3) for i in range(400)])


@given(PATIENTS, st.integers(1, 5), st.sampled_from(DEALT), st.floats(1e-6, 1e6), st.integers(0, 2**32))
def test_every_patient_stands_at_one_site_and_no_site_is_empty(patients, num_sites, partition, concentration, seed):
    assume(num_sites <= len(patients))
    frame, sites = frame_of(patients), [f"site-{i}" for i in range(num_sites)]
    owner = assign(frame, partition, sites=sites, concentration=concentration, seed=seed)
    assert set(owner) == set(frame["patient_id"])
    assert set(owner.values()) == set(sites)
    assert all(type(patient) is str for patient in owner)


@pytest.mark.parametrize("partition", DEALT)
def test_equal_generators_deal_equally_and_others_do_not(many, partition):
    assert assign(many, partition, seed=1) == assign(many, partition, seed=1)
    assert assign(many, partition, seed=1) != assign(many, partition, seed=2)


@pytest.mark.parametrize("partition", DEALT)
def test_the_order_of_rows_does_not_matter(many, partition):
    assert assign(many.sample(frac=1, random_state=0), partition) == assign(many, partition)


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 99))
def test_iid_sites_differ_by_one_patient_at_most(num_patients, num_sites, seed):
    assume(num_sites <= num_patients)
    sites = [str(i) for i in range(num_sites)]
    sizes = sizes_of(assign(frame_of([(0, "1", 1)] * num_patients), Partition.IID, sites=sites, seed=seed), sites)
    assert max(sizes) - min(sizes) <= 1


def skew_of(frame, owner, column, pooled):
    """Return the mean total variation between a site's distribution of ``column`` and that of everybody."""
    values = frame.groupby("patient_id")[column].agg(pooled)
    sites = values.index.map(owner)
    table = pd.crosstab(sites, values.to_numpy(), normalize="index")
    everybody = values.value_counts(normalize=True)
    return float((table - everybody[table.columns].to_numpy()).abs().sum(axis=1).mean() / 2)


@pytest.mark.parametrize(
    ("partition", "column", "pooled"),
    [(Partition.LABEL_SKEW, "label", "max"), (Partition.DENSITY_SKEW, "breast_density", "first")],
)
def test_smaller_concentrations_are_more_skewed(many, partition, column, pooled):
    def mean_skew(concentration):
        owners = [assign(many, partition, concentration=concentration, seed=seed) for seed in range(10)]
        return np.mean([skew_of(many, owner, column, pooled) for owner in owners])

    strong, medium, weak = mean_skew(0.1), mean_skew(1.0), mean_skew(100.0)
    assert strong > medium > weak
    assert strong > 0.2
    assert weak < 0.1


@pytest.mark.parametrize("column", ["label", "breast_density"])
def test_iid_is_hardly_skewed(many, column):
    pooled = "max" if column == "label" else "first"
    assert np.mean([skew_of(many, assign(many, Partition.IID, seed=s), column, pooled) for s in range(5)]) < 0.1


def test_large_concentrations_give_every_site_its_share_of_both_classes(many):
    owner = assign(many, Partition.LABEL_SKEW, concentration=1e9)
    labels = many.groupby("patient_id")["label"].max()
    for site in SITES:
        mine = labels[[patient for patient, name in owner.items() if name == site]]
        assert mine.value_counts().tolist() == pytest.approx([200 / 3, 200 / 3], abs=1)


def test_a_patient_with_one_malignant_lesion_counts_as_malignant():
    frame = frame_of([(1, "1", 3)] * 30 + [(0, "1", 3)] * 30)
    owner = assign(frame, Partition.LABEL_SKEW, sites=("A", "B"), concentration=1e9)
    malignant = [owner[f"P_{i:05d}"] for i in range(30)]
    assert (malignant.count("A"), malignant.count("B")) == (15, 15)


def test_patients_of_unknown_density_are_dealt_too():
    frame = frame_of([(0, None, 1)] * 10)
    owner = assign(frame, Partition.DENSITY_SKEW, concentration=0.01)
    assert len(owner) == 10
    assert min(sizes_of(owner)) >= 1


@pytest.mark.parametrize("partition", DEALT)
def test_as_many_patients_as_sites_give_one_each(partition):
    assert sizes_of(assign(frame_of([(i % 2, "1", 2) for i in range(3)]), partition, concentration=0.01)) == [1, 1, 1]


@pytest.mark.parametrize("partition", DEALT)
def test_fewer_patients_than_sites_is_an_error(partition):
    with pytest.raises(ConfigError, match="Expected at least as many patients as sites, got 2 for 3 sites"):
        assign(frame_of([(0, "1", 5)] * 2), partition)


def test_hospitals_are_not_dealt(many):
    with pytest.raises(ConfigError, match=r"Expected a partition that assigns patients; hospital reads data\.roster"):
        assign(many, Partition.HOSPITAL)
