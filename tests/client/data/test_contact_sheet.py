"""Pictures side by side, where a person looks for the flipped and the empty one."""

import cv2
import numpy as np
import pytest

from client.data.contact_sheet import Picture, contact_sheet


def picture(grey):
    image = None if grey is None else np.full((32, 32), grey, dtype=np.float32)
    return Picture(caption=("row 1: benign", "LEFT CC"), image=image)


def decoded(content):
    return cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)


def test_five_in_a_row_each_with_its_grey():
    sheet = decoded(contact_sheet([picture(number / 10) for number in range(7)]))
    assert sheet.shape == (2 * 304 + 8, 5 * 264 + 8)
    centres = [sheet[8 + 128 + 304 * (number // 5), 8 + 128 + 264 * (number % 5)] for number in range(7)]
    assert centres == [round(number / 10 * 255) for number in range(7)]
    assert sheet[8 + 128 + 304, 8 + 128 + 264 * 4] == 255
    # Something is written below a picture.
    assert sheet[8 + 256 : 8 + 296, 8:264].min() < 64


def test_left_and_right_stay_where_they_are():
    image = np.zeros((32, 32), dtype=np.float32)
    image[:, :16] = 1
    sheet = decoded(contact_sheet([Picture(caption=("", ""), image=image)]))
    assert (sheet[100, 20], sheet[100, 250]) == (255, 0)


def test_one_that_cannot_be_read_is_crossed_out():
    sheet = decoded(contact_sheet([picture(None)]))
    field = sheet[8:264, 8:264]
    assert field[100, 10] == 32
    assert field[128, 128] > 200


def test_empty_is_all_of_one_grey():
    assert picture(0.5).is_empty
    assert not Picture(caption=("", ""), image=np.eye(32, dtype=np.float32)).is_empty
    assert not picture(None).is_empty
    with pytest.raises(ValueError, match="Expected pictures, got none"):
        contact_sheet([])
