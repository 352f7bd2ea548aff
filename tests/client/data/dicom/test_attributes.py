"""Attributes of a data set, absent, empty, several and wrong."""

import math

import pytest
from pydicom import Dataset

from client.data.dicom.attributes import expect, read_integer, read_number, read_number_pair
from shared_model.errors import DicomError


def dataset_of(**attributes):
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


class TestExpect:
    def test_an_expectation_that_is_met_says_nothing(self):
        expect(True, dataset_of(), "Rows", "to be something")

    def test_the_message_names_keyword_tag_value_and_expectation(self):
        with pytest.raises(DicomError, match=r"^Expected Rows \(0028,0010\)=7 to be even\.$"):
            expect(False, dataset_of(Rows=7), "Rows", "to be even")

    def test_an_absent_attribute_is_missing(self):
        with pytest.raises(DicomError, match=r"^Expected Rows \(0028,0010\)=missing to be there\.$"):
            expect(False, dataset_of(), "Rows", "to be there")

    def test_a_long_value_is_shortened(self):
        with pytest.raises(DicomError, match=r"\.\.\.") as caught:
            expect(False, dataset_of(SeriesDescription="x" * 64), "SeriesDescription", "to be short")
        assert len(str(caught.value)) < 120


class TestInteger:
    @pytest.mark.parametrize("value", [1, 5, 9])
    def test_bounds_belong_to_the_range(self, value):
        assert read_integer(dataset_of(Rows=value), "Rows", 1, 9) == value

    @pytest.mark.parametrize("value", [0, 10, None])
    def test_out_of_range_or_empty(self, value):
        with pytest.raises(DicomError, match=r"Expected Rows .* to be an integer in \[1, 9\]"):
            read_integer(dataset_of(Rows=value), "Rows", 1, 9)

    def test_absent(self):
        with pytest.raises(DicomError, match=r"Expected Rows .*=missing to be an integer"):
            read_integer(dataset_of(), "Rows", 1, 9)


class TestNumber:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [("1.5", 1.5), (["2", "3"], 2.0), ("-1e3", -1000.0), ("", None), ([], None), (None, None)],
    )
    def test_the_first_value_counts(self, value, expected):
        assert read_number(dataset_of(WindowCenter=value), "WindowCenter") == expected

    def test_absent(self):
        assert read_number(dataset_of(), "WindowCenter") is None

    @pytest.mark.parametrize("value", [math.inf, math.nan])
    def test_not_finite(self, value):
        dataset = dataset_of(RealWorldValueSlope=value)
        with pytest.raises(DicomError, match=r"Expected RealWorldValueSlope .* to be a finite number"):
            read_number(dataset, "RealWorldValueSlope")


class TestPair:
    def test_both_or_none(self):
        assert read_number_pair(dataset_of(WindowCenter="1", WindowWidth="2"), "WindowCenter", "WindowWidth") == (1, 2)
        assert read_number_pair(dataset_of(), "WindowCenter", "WindowWidth") is None

    @pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth"])
    def test_one_without_the_other(self, keyword):
        with pytest.raises(DicomError, match=r"WindowCenter \(0028,1050\) and WindowWidth \(0028,1051\) together"):
            read_number_pair(dataset_of(**{keyword: "1"}), "WindowCenter", "WindowWidth")
