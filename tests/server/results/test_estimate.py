"""An estimate is a share with an interval round it, and is printed with as many digits as asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.results.estimate import Estimate, shown
from shared_model.metrics.intervals import ConfidenceInterval

INTERVAL = ConfidenceInterval(low=0.7964, high=0.899)


@pytest.mark.parametrize(
    ("estimate", "digits", "text"),
    [
        (Estimate(name="auroc", value=0.8514, interval=INTERVAL), 3, "0.851 (0.796 to 0.899)"),
        (Estimate(name="auroc", value=0.8514, interval=INTERVAL), 1, "0.9 (0.8 to 0.9)"),
        (Estimate(name="ppv", value=1.0, interval=None), 4, "1.0000"),
        (Estimate(name="ppv", value=None, interval=None), 3, "-"),
        (None, 3, "-"),
    ],
)
def test_shown(estimate, digits, text):
    assert shown(estimate, digits) == text


@given(st.floats(0, 1), st.integers(1, 6))
def test_what_is_shown_is_the_value_rounded(value, digits):
    estimate = Estimate(name="auroc", value=value, interval=None)
    assert abs(float(shown(estimate, digits)) - value) <= 0.5 * 10**-digits + 1e-12


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_value_is_a_share(value):
    with pytest.raises(ValueError, match=r"Expected Estimate\.value"):
        Estimate(name="auroc", value=value, interval=None)


def test_no_interval_without_a_value():
    with pytest.raises(ValueError, match=r"Expected Estimate\.interval=.*only with a value"):
        Estimate(name="auroc", value=None, interval=INTERVAL)


def test_it_has_a_name():
    with pytest.raises(ValueError, match=r"Expected Estimate\.name"):
        Estimate(name="", value=0.5, interval=None)
