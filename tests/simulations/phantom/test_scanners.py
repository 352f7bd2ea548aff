"""Digitising a film: the stored values that a scanner makes of attenuation."""

import dataclasses

import numpy as np
import pytest

from simulations.phantom.distributions import SITE_SHARES
from simulations.phantom.scanners import SCANNERS, scan

PLAIN = dataclasses.replace(
    SCANNERS["MGH"], gain=1.0, offset=0.0, gamma=1.0, noise=0.0, blur=0.0, bits_stored=12, is_compressed=False
)
"""Attenuation times exposure, and nothing else."""


class Exposure:
    """A generator whose exposure is 1 and whose noise is 0."""

    def uniform(self, low, high):
        assert low < 1 < high
        return 1.0

    def standard_normal(self, shape, dtype):
        return np.zeros(shape, dtype)


@pytest.fixture
def film():
    """Background on the left, then a ramp of tissue."""
    image = np.zeros((40, 60), dtype=np.float32)
    image[:, 20:] = np.linspace(0.1, 0.9, 40, dtype=np.float32)
    return image


def test_every_hospital_has_a_scanner():
    assert set(SCANNERS) == set(SITE_SHARES)


def test_values_by_hand(film):
    stored = scan(film, PLAIN, Exposure())
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, np.rint(film * 4095))


def test_gain_offset_and_gamma_make_the_characteristic_curve(film):
    scanner = dataclasses.replace(PLAIN, gain=0.8, offset=0.05, gamma=2.0)
    expected = np.where(film > 0, np.rint((0.05 + 0.8 * film**2) * 4095), 0)
    np.testing.assert_allclose(scan(film, scanner, Exposure()), expected, atol=1)


def test_monochrome1_stores_the_complement(film):
    inverted = dataclasses.replace(PLAIN, photometric_interpretation="MONOCHROME1")
    np.testing.assert_array_equal(scan(film, inverted, Exposure()), 4095 - scan(film, PLAIN, Exposure()))


@pytest.mark.parametrize("site", SCANNERS)
def test_values_fit_the_stored_bits_and_the_background_has_no_noise(film, site):
    scanner = SCANNERS[site]
    stored = scan(film, scanner, np.random.default_rng(0))
    largest = 2**scanner.bits_stored - 1
    assert stored.max() <= largest
    # The blur carries no tissue over the edge of the film's background.
    background = largest if scanner.photometric_interpretation == "MONOCHROME1" else 0
    assert (stored[:, :20] == background).all()
    assert np.unique(stored[:, 30]).size > 10


def test_noise_has_the_given_standard_deviation():
    flat = np.full((300, 300), 0.5, dtype=np.float32)
    stored = scan(flat, dataclasses.replace(PLAIN, noise=0.01), np.random.default_rng(1))
    assert stored.std() / 4095 == pytest.approx(0.01, rel=0.02)


def test_films_of_one_scanner_are_exposed_a_little_differently():
    flat, rng = np.full((4, 4), 0.5, dtype=np.float32), np.random.default_rng(2)
    exposures = [scan(flat, PLAIN, rng).mean() / 4095 / 0.5 for _ in range(50)]
    assert 0.97 <= min(exposures) < 0.98
    assert 1.02 < max(exposures) <= 1.03
