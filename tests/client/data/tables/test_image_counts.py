"""How many lesions have an image, by what the image mode reads of them."""

import pytest

from client.data.tables.image_counts import ImageCount
from client.data.tables.lesion_table import build_lesion_table
from shared_model.config.choices import ImageMode
from shared_model.errors import DataError


@pytest.fixture
def table(row):
    rows = [
        row(1, film_path="f.dcm"),
        row(2, lesion_paths=("a.dcm",)),
        row(3, film_path="f.dcm", lesion_paths=("a.dcm",)),
        row(4),
        row(5, problem="no image file: 'x.dcm' in '/data'"),
        row(6, problem="image file is empty (0 bytes)"),
        row(7, split="?"),
    ]
    return build_lesion_table([*rows, row(8, lesion_paths=("b.dcm",))])


@pytest.mark.parametrize(("mode", "num_with"), [(ImageMode.CROP, 3), (ImageMode.FILM, 2), (ImageMode.ROI, 2)])
def test_files_that_the_mode_reads(table, mode, num_with):
    count = ImageCount.of(table, mode)
    assert str(count) == f"{num_with} of 7 lesions have an image"
    count.require_some("correct the table")


def test_none_is_an_error_with_what_to_do(row):
    with pytest.raises(DataError, match=r"^Expected images, 0 of 1 lesions have an image; correct the table\.$"):
        ImageCount.of(build_lesion_table([row(1)]), ImageMode.FILM).require_some("correct the table")
