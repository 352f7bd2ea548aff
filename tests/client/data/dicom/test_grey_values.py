"""Look-up tables, windows and padding on small data sets; on whole files they are tested with the reader."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from client.data.dicom.decoding import PixelFormat
from client.data.dicom.grey_values import grey_table, padding_mask
from shared_model.errors import DicomError


def format_of(bits_stored=4, *, is_signed=False, is_inverted=False):
    return PixelFormat(
        rows=1, columns=1, bits_allocated=16, bits_stored=bits_stored, is_signed=is_signed, is_inverted=is_inverted
    )


def dataset_of(**attributes):
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


class TestTable:
    def test_without_transforms_a_value_is_its_own_grey(self):
        table = grey_table(dataset_of(), format_of(is_signed=True))
        assert table.tolist() == list(range(-8, 8))
        assert table.dtype == np.float32

    def test_inversion_swaps_the_ends(self):
        assert grey_table(dataset_of(), format_of(is_inverted=True)).tolist() == list(range(15, -1, -1))

    def test_rescale(self):
        table = grey_table(dataset_of(RescaleSlope="2", RescaleIntercept="-3"), format_of(2))
        assert table.tolist() == [-3, -1, 1, 3]

    @given(st.floats(-20, 20), st.floats(1.5, 40))
    def test_the_linear_window_is_the_standards_formula(self, center, width):
        """PS3.3 C.11.2.1.2.1, value by value."""
        dataset = dataset_of(WindowCenter=f"{center:.6f}", WindowWidth=f"{width:.6f}")
        center, width = round(center, 6), round(width, 6)
        expected = []
        for x in range(16):
            if x <= center - 0.5 - (width - 1) / 2:
                expected.append(0.0)
            elif x > center - 0.5 + (width - 1) / 2:
                expected.append(1.0)
            else:
                expected.append((x - (center - 0.5)) / (width - 1) + 0.5)
        if min(expected) == max(expected):
            with pytest.raises(DicomError, match="not all equal"):
                grey_table(dataset, format_of())
        else:
            np.testing.assert_allclose(grey_table(dataset, format_of()), expected, atol=1e-6)

    def test_sigmoid_by_hand(self):
        dataset = dataset_of(WindowCenter="1", WindowWidth="4", VOILUTFunction="SIGMOID")
        expected = 1 / (1 + np.exp(-(np.arange(4) - 1.0)))
        np.testing.assert_allclose(grey_table(dataset, format_of(2)), expected, rtol=1e-6)

    @pytest.mark.parametrize(
        ("attributes", "match"),
        [
            ({"WindowCenter": "1", "WindowWidth": "0.5"}, "Expected WindowWidth .* >= 1"),
            (
                {"WindowCenter": "1", "WindowWidth": "0", "VOILUTFunction": "LINEAR_EXACT"},
                "WindowWidth .* > 0",
            ),
            ({"WindowCenter": "1", "WindowWidth": "2", "VOILUTFunction": "CUBIC"}, "Expected VOILUTFunction"),
            ({"RescaleSlope": "0", "RescaleIntercept": "1"}, "not all equal"),
            ({"RescaleSlope": "1e300", "RescaleIntercept": "0"}, "finite values"),
        ],
    )
    def test_what_maps_nowhere(self, attributes, match):
        with pytest.raises(DicomError, match=match), np.errstate(over="ignore"):
            grey_table(dataset_of(**attributes), format_of())


class TestPadding:
    STORED = np.arange(16, dtype=np.int32).reshape(4, 4)

    def test_none_is_said(self):
        assert not padding_mask(dataset_of(), self.STORED, format_of()).any()

    def test_one_value(self):
        mask = padding_mask(dataset_of(PixelPaddingValue=3), self.STORED, format_of())
        assert self.STORED[mask].tolist() == [3]

    @pytest.mark.parametrize(("value", "limit"), [(2, 5), (5, 2)])
    def test_value_and_limit_belong_to_the_range(self, value, limit):
        dataset = dataset_of(PixelPaddingValue=value, PixelPaddingRangeLimit=limit)
        mask = padding_mask(dataset, self.STORED, format_of())
        assert self.STORED[mask].tolist() == [2, 3, 4, 5]

    @pytest.mark.parametrize("value", [16, -1, 65535])
    def test_a_value_that_cannot_be_stored_is_that_of_no_pixel(self, value):
        dataset = dataset_of()
        dataset.add_new("PixelPaddingValue", "SS" if value < 0 else "US", value)
        assert not padding_mask(dataset, self.STORED, format_of()).any()

    @pytest.mark.parametrize(("value", "limit"), [(14, 99), (99, 14)])
    def test_a_limit_that_cannot_be_stored_reaches_to_the_largest_value(self, value, limit):
        dataset = dataset_of(PixelPaddingValue=value, PixelPaddingRangeLimit=limit)
        assert self.STORED[padding_mask(dataset, self.STORED, format_of())].tolist() == [14, 15]
