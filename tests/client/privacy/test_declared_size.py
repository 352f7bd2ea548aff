"""The declared size is a multiple of the rounding, never above the count and never 0."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from client.privacy.declared_size import declared_size
from shared_model.errors import PrivacyError


@given(num_patients=st.integers(1, 10_000), rounding=st.integers(1, 100))
def test_declared_size_is_the_largest_multiple_not_above(num_patients, rounding):
    assume(num_patients >= rounding)
    declared = declared_size(num_patients, rounding)
    assert declared % rounding == 0
    assert 0 < declared <= num_patients < declared + rounding


def test_declared_size_is_never_zero():
    with pytest.raises(PrivacyError, match="Expected num_patients=9 >= cohort_rounding=10"):
        declared_size(9, 10)
    with pytest.raises(ValueError, match="Expected rounding=0 >= 1"):
        declared_size(9, 0)
