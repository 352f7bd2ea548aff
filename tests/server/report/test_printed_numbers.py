"""Numbers as report and terminal print them."""

import pytest

from server.report.printed_numbers import format_interval, format_number
from shared_model.metrics.intervals import ConfidenceInterval


@pytest.mark.parametrize(
    ("value", "digits", "text"), [(0.8514, 3, "0.851"), (0.0, 3, "0.000"), (1 / 3, 1, "0.3"), (None, 3, "-")]
)
def test_a_number_has_fixed_decimals_or_is_a_dash(value, digits, text):
    assert format_number(value, digits) == text


def test_an_interval_has_both_ends_or_is_a_dash():
    assert format_interval(ConfidenceInterval(low=0.70049, high=0.85)) == "0.700 to 0.850"
    assert format_interval(ConfidenceInterval(low=0, high=1), digits=1) == "0.0 to 1.0"
    assert format_interval(None) == "-"
