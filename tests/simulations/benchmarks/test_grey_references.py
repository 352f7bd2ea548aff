"""References of real masses are the shipped ones; alterations are found at the rates that the docs print."""

import numpy as np
import pytest

from shared_model.config.choices import Normalisation
from shared_model.config.composition import compose
from shared_model.errors import DataError
from shared_model.reference.grey_levels import load_grey_references
from simulations.benchmarks.grey_references import ALTERATIONS, make_references, measure_detection
from tests.real_data import CBIS_DDSM, needs_cbis_ddsm


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_altered_picture_stays_within_the_scale(name):
    picture = np.random.default_rng(0).uniform(size=(16, 16)).astype(np.float32)
    altered = ALTERATIONS[name](picture)
    assert altered.dtype == np.float32
    assert 0 <= altered.min() < altered.max() <= 1


@needs_cbis_ddsm
@pytest.mark.slow
class TestRealMasses:
    def test_the_shipped_references_are_made_again(self):
        assert make_references(compose(["preset=cbis_mass", f"data.root={CBIS_DDSM}"])) == load_grey_references()

    def test_rates(self):
        rows = list(measure_detection(compose(["preset=cbis_mass", f"data.root={CBIS_DDSM}"])))
        assert len(rows) == len(Normalisation) * len(ALTERATIONS) * 3
        for row in rows:
            if row.alteration == "as it is":
                assert row.single_rate < 0.12
                assert row.sample_rate < 0.05
            elif row.normalisation is Normalisation.FULL_RANGE or row.alteration in ("negative", "own window burnt in"):
                assert row.sample_rate > 0.9
            if row.alteration == "negative":
                assert row.single_rate > 0.9

    def test_one_site_has_none_to_compare_with(self):
        config = compose(
            ["preset=cbis_mass", f"data.root={CBIS_DDSM}", "federation.sites=[ISMD]", "federation.min_sites=1"]
        )
        with pytest.raises(DataError, match=r"Expected masses of two or more sites, got ISMD\."):
            list(measure_detection(config))
