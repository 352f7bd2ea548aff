"""Some images are looked at before a start: negatives and faint ones are told to the site, and nothing is refused."""

import cv2
import numpy as np
import pytest

from client.deployment.checks import Doubt
from client.deployment.grey_checks import check_grey_levels
from tests.hospital_kits import rows_of

NUM_PATIENTS = 60


def mass(number):
    """A bright disc on darker tissue, 8 bits."""
    pixels = np.full((64, 64), 90 + number, np.uint8)
    cv2.circle(pixels, (32, 32), 16, 200, -1)
    return cv2.GaussianBlur(pixels, (0, 0), 2)


@pytest.fixture
def images(kit):
    """A hospital with a grey PNG for each of its patients."""
    kit.change_policy(fields={})
    rows = rows_of([f"P{number:02d}" for number in range(NUM_PATIENTS)])
    for number, row in enumerate(rows):
        row["image_path"] = f"{row['patient_id']}.png"
        cv2.imwrite(str(kit.table.parent / row["image_path"]), mass(number))
    kit.write_table(rows)
    return kit


def change(kit, numbers, picture):
    for number in numbers:
        assert cv2.imwrite(str(kit.table.parent / f"P{number:02d}.png"), picture(number))


def test_all_is_well(images):
    assert check_grey_levels(images.site) == "48 images looked at, 0 of them darker inside than outside"


def test_a_few_dark_masses_are_no_matter(images):
    change(images, range(0, 20, 2), lambda number: 255 - mass(number))
    assert check_grey_levels(images.site) == "48 images looked at, 8 of them darker inside than outside"


def test_negatives(images):
    change(images, range(NUM_PATIENTS), lambda number: 255 - mass(number))
    with pytest.raises(Doubt, match=r"^48 of 48 images look negative: tissue is darker than what"):
        check_grey_levels(images.site)


def test_few_grey_levels(images):
    change(images, range(3), lambda number: mass(number).astype(np.uint16) * 16)
    with pytest.raises(Doubt, match=r"^3 of 48 sampled images use under a tenth .*\.normalisation=percentile$"):
        check_grey_levels(images.site)


def test_a_window_that_was_burnt_in(images):
    change(images, range(NUM_PATIENTS), lambda number: cv2.convertScaleAbs(mass(number), alpha=3, beta=-300))
    with pytest.raises(Doubt, match=r"; stretched in contrast, .*; 48 of 48 images have 3% or more .* pure white"):
        check_grey_levels(images.site)


def test_what_cannot_be_read_is_left_to_the_check_of_images(images):
    (images.table.parent / "P00.png").write_bytes(b"no image")
    assert check_grey_levels(images.site).startswith("47 images looked at")


def test_a_site_without_images_has_nothing_to_look_at(images):
    images.change_policy(fields={"model.modality": ["clinical"]})
    assert check_grey_levels(images.site) == "none needed"
